package ops

import (
	"cmp"
	"fmt"
	"io"
	"os"

	"github.com/mattn/go-isatty"
	"github.com/walfence/walfence/internal/config"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// NewLogger makes a program's logger: JSON lines, or lines for people if the settings say so or, when they say nothing, w
// is a terminal. Every line passes config.Redact.
func NewLogger(settings config.Log, w io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(cmp.Or(settings.Level, "info"))
	if err != nil {
		return nil, fmt.Errorf("read log level: %w", err)
	}
	encoding := zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "logger", MessageKey: "msg", StacktraceKey: "stack",
		EncodeTime: zapcore.RFC3339NanoTimeEncoder, EncodeLevel: zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder, EncodeName: zapcore.FullNameEncoder,
	}
	encoder := zapcore.NewJSONEncoder(encoding)
	if settings.Format == "console" || settings.Format == "" && isTerminal(w) {
		encoding.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(redactor{w})), level)), nil
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && isatty.IsTerminal(file.Fd())
}

// redactor is the last line of defence: errors of drivers may quote what they were given.
type redactor struct{ io.Writer }

func (r redactor) Write(line []byte) (int, error) {
	if _, err := io.WriteString(r.Writer, config.Redact(string(line))); err != nil {
		return 0, fmt.Errorf("write log: %w", err)
	}
	return len(line), nil
}
