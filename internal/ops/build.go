package ops

import (
	"runtime/debug"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Build says which program this is.
type Build struct {
	// Version is the module's version, or (devel).
	Version string `json:"version"`
	// Commit is the revision that it was built from, with + if the tree had changes, or unknown.
	Commit string `json:"commit"`
	// Go is the compiler's version.
	Go string `json:"go"`
}

// ThisBuild reads what the compiler has left in the program.
func ThisBuild() Build {
	b := Build{Version: "(devel)", Commit: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go = info.GoVersion
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	if revision := settings["vcs.revision"]; revision != "" {
		b.Commit = revision
		if settings["vcs.modified"] == "true" {
			b.Commit += "+"
		}
	}
	return b
}

// String is what `version` prints.
func (b Build) String() string { return b.Version + " (" + b.Commit + ", " + b.Go + ")" }

// NewRegistry makes a program's metrics: the Go runtime's, the process's, and which build it is.
func NewRegistry(program string) *prometheus.Registry {
	b := ThisBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "walfence_build_info", Help: "Always 1; the labels say which program this is.",
		ConstLabels: prometheus.Labels{"program": program, "version": b.Version, "commit": b.Commit, "goversion": b.Go},
	})
	info.Set(1)
	r := prometheus.NewRegistry()
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}
