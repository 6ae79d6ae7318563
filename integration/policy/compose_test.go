package policy

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/walfence/walfence/internal/config"
	"github.com/walfence/walfence/internal/testkit"
	"go.yaml.in/yaml/v4"
)

// compose is as much of docker-compose.yml as we look at. Strict fields would have to follow Docker's.
type compose struct {
	Services map[string]struct {
		Image       string
		Build       string
		Command     []string
		Entrypoint  []string
		Environment map[string]string
		Ports       []string
		Volumes     []string
		DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
		ReadOnly    bool                                  `yaml:"read_only"`
	}
	Volumes map[string]any
}

type cdcSettings struct {
	config.Postgres
	config.NATS
	config.Redis
	config.Rules
	config.CDC
	config.Log
}

type invalidatorSettings struct {
	config.NATS
	config.Redis
	config.Rules
	config.Invalidator
	config.Log
}

func (*cdcSettings) Run() error         { return nil }
func (*invalidatorSettings) Run() error { return nil }

func readTop(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(testkit.Top(), name))
	require.NoError(t, err)
	return string(text)
}

func readCompose(t *testing.T) compose {
	t.Helper()
	var c compose
	require.NoError(t, yaml.Unmarshal([]byte(readTop(t, "docker-compose.yml")), &c))
	return c
}

// names are the environment variables of a struct's settings, and the file forms of its secrets.
func names(typ reflect.Type) (all []string) {
	for i := range typ.NumField() {
		field := typ.Field(i)
		if field.Anonymous {
			all = append(all, names(field.Type)...)
		} else if name := field.Tag.Get("env"); name != "" {
			all = append(all, name)
			if field.Type == reflect.TypeFor[config.Secret]() {
				all = append(all, name+"_FILE")
			}
		}
	}
	return all
}

func TestComposeSetsOnlyKnownSettingsAndAllThatAreNeeded(t *testing.T) {
	c := readCompose(t)
	for program, settings := range map[string]any{"cdc": &cdcSettings{}, "invalidator": &invalidatorSettings{}} {
		service, ok := c.Services[program]
		require.True(t, ok, program)
		known := names(reflect.TypeOf(settings).Elem())
		var environ []string
		for name, value := range service.Environment {
			require.Contains(t, known, name, program)
			environ = append(environ, name+"="+value)
		}
		var stdout, stderr bytes.Buffer
		grammar := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Run", Type: reflect.TypeOf(settings).Elem(), Tag: `cmd:""`}}))
		code := config.Main(t.Context(), config.Program{Name: program, Grammar: grammar.Interface()}, []string{"run"}, environ, &stdout, &stderr)
		require.Zero(t, code, "%s: %s", program, stderr.String())
		require.Contains(t, service.Environment, strings.ToUpper(program)+"_HTTP", "in a container 127.0.0.1 is reached by nobody")
		require.NotEqual(t, "embedded", service.Environment["NATS_URL"])
		require.Contains(t, service.Environment, "NATS_URL")
		require.True(t, service.ReadOnly)
		require.Equal(t, ".", service.Build)
	}
}

func TestComposeNamesOnlyServicesAndVolumesThatItHas(t *testing.T) {
	c := readCompose(t)
	require.Contains(t, strings.Join(c.Services["postgres"].Command, " "), "wal_level=logical")
	require.Contains(t, strings.Join(c.Services["nats"].Command, " "), "--jetstream")
	for name, service := range c.Services {
		require.NotEqual(t, service.Image == "", service.Build == "", "%s: either image or build", name)
		for other := range service.DependsOn {
			require.Contains(t, c.Services, other, name)
		}
		for _, port := range service.Ports {
			require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s: port %s is open to everybody", name, port)
		}
		for _, volume := range service.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			if path, ok := strings.CutPrefix(source, "./"); ok {
				require.NotEmpty(t, readTop(t, path), name)
			} else {
				require.Contains(t, c.Volumes, source, name)
			}
		}
	}
}

func TestImageIsStaticAndRunsAsNobody(t *testing.T) {
	lines := strings.Split(readTop(t, "Dockerfile"), "\n")
	require.Contains(t, lines, "FROM scratch")
	require.Contains(t, lines, "USER 65532:65532")
	require.True(t, slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, "CGO_ENABLED=0 go build") }))
	require.Contains(t, readTop(t, "go.mod"), "\ngo 1.26")
	require.Contains(t, lines[0], "golang:1.26")
}
