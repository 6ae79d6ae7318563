package config

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The groups below are embedded in the commands that need them, each with its group tag, so that a command's help shows
// what it reads. The env tag names the setting; the flag's name follows from it.

// Postgres is how to reach the source database.
type Postgres struct {
	DatabaseURL Secret `env:"DATABASE_URL" placeholder:"URL" help:"Source database, directly and not through a pooler. Several hosts may be given."`
}

// Check reports what is wrong with the database's URL.
func (p Postgres) Check() Problems {
	const hint = "for example postgres://db.example:5432/shop?user=cdc"
	if p.DatabaseURL.Reveal() == "" {
		return Problems{{"DATABASE_URL", "not set", hint}}
	}
	if cause := checkDatabaseURL(p.DatabaseURL.Reveal()); cause != "" {
		return Problems{{"DATABASE_URL", cause, hint}}
	}
	return nil
}

// NATS is how to reach JetStream, or to run it.
type NATS struct {
	URL    Secret `name:"nats-url" env:"NATS_URL" default:"embedded" placeholder:"URL" help:"NATS servers, with commas between them; or embedded, for a server inside cdc."`
	Listen string `name:"nats-listen" env:"NATS_LISTEN" default:"127.0.0.1:4222" placeholder:"HOST:PORT" help:"Where the embedded server listens."`
	Store  string `name:"nats-store" env:"NATS_STORE" default:"./data/nats" placeholder:"DIR" help:"Where the embedded server keeps its streams."`
	Creds  string `name:"nats-creds" env:"NATS_CREDS" placeholder:"FILE" help:"File with a user's JWT and seed."`
	NKey   string `name:"nats-nkey" env:"NATS_NKEY" placeholder:"FILE" help:"File with an NKey's seed."`
	CA     string `name:"nats-ca" env:"NATS_CA" placeholder:"FILE" help:"File with the certificates of authorities to trust."`
	Cert   string `name:"nats-cert" env:"NATS_CERT" placeholder:"FILE" help:"File with our certificate."`
	Key    string `name:"nats-key" env:"NATS_KEY" placeholder:"FILE" help:"File with our certificate's key."`

	MaxBytes Size          `name:"stream-max-bytes" env:"STREAM_MAX_BYTES" default:"8GB" placeholder:"SIZE" help:"How much the stream of changes may hold."`
	MaxAge   time.Duration `name:"stream-max-age" env:"STREAM_MAX_AGE" default:"24h" placeholder:"DURATION" help:"How long the stream of changes keeps a message."`
	Replicas int           `name:"stream-replicas" env:"STREAM_REPLICAS" default:"1" placeholder:"N" help:"On how many servers of a cluster each stream is kept."`
}

// Embedded tells whether cdc runs the server itself.
func (n NATS) Embedded() bool { return n.URL.Reveal() == "embedded" }

// Check reports what is wrong with the way to JetStream and its limits.
func (n NATS) Check() Problems {
	problems := n.checkLimits()
	if n.Embedded() {
		if cause := checkListen(n.Listen); cause != "" {
			problems = append(problems, Problem{"NATS_LISTEN", cause, "for example 127.0.0.1:4222"})
		}
		return problems
	}
	for server := range strings.SplitSeq(n.URL.Reveal(), ",") {
		server = strings.TrimSpace(server)
		if !strings.Contains(server, "://") {
			server = "nats://" + server
		}
		if cause := checkURL(server, schemesNATS); cause != "" {
			problems = append(problems, Problem{"NATS_URL", cause, "for example nats://n1.example:4222,nats://n2.example:4222, or embedded"})
		}
	}
	if (n.Cert == "") != (n.Key == "") {
		problems = append(problems, Problem{"NATS_CERT", "NATS_CERT and NATS_KEY go together", "set both or none"})
	}
	return append(problems, n.checkFiles()...)
}

func (n NATS) checkLimits() (problems Problems) {
	if n.MaxBytes < 1e6 {
		problems = append(problems, Problem{"STREAM_MAX_BYTES", fmt.Sprintf("%v is too little", n.MaxBytes), "at least 1MB, for example 8GB"})
	}
	if n.MaxAge < time.Minute {
		problems = append(problems, Problem{"STREAM_MAX_AGE", fmt.Sprintf("%v is too short", n.MaxAge), "at least 1m, for example 24h"})
	}
	if n.Replicas < 1 || n.Replicas > 5 {
		problems = append(problems, Problem{"STREAM_REPLICAS", fmt.Sprintf("%d is not possible", n.Replicas), "from 1 to 5"})
	}
	return problems
}

func (n NATS) checkFiles() (problems Problems) {
	for _, f := range []struct{ setting, path string }{
		{"NATS_CREDS", n.Creds}, {"NATS_NKEY", n.NKey}, {"NATS_CA", n.CA}, {"NATS_CERT", n.Cert}, {"NATS_KEY", n.Key},
	} {
		if f.path == "" {
			continue
		}
		if _, err := os.Stat(f.path); err != nil {
			problems = append(problems, Problem{f.setting, err.Error(), "set it to a file that this program may read"})
		}
	}
	return problems
}

// Redis is the cache that rules name as ${REDIS_URL}.
type Redis struct {
	URL Secret `name:"redis-url" env:"REDIS_URL" default:"redis://127.0.0.1:6379/0" placeholder:"URL" help:"What $${REDIS_URL} stands for in rules."`
}

// Check reports what is wrong with the URL.
func (r Redis) Check() Problems {
	if cause := checkURL(r.URL.Reveal(), schemesRedis); cause != "" {
		return Problems{{"REDIS_URL", cause, "for example redis://cache.example:6379/0, or redis-cluster://h1:7000,h2:7000"}}
	}
	return nil
}

// Rules is where the rules are.
type Rules struct {
	Path string `name:"rules" env:"RULES" default:"rules.yaml" placeholder:"FILE" help:"File with the rules."`
}

// CDC is what is set for cdc alone.
type CDC struct {
	Slot         string        `name:"cdc-slot" env:"CDC_SLOT" default:"walfence" placeholder:"NAME" help:"Replication slot."`
	Publication  string        `name:"cdc-publication" env:"CDC_PUBLICATION" default:"walfence" placeholder:"NAME" help:"Publication. One that exists and is not ours is used as it is."`
	Setup        string        `name:"cdc-setup" env:"CDC_SETUP" default:"auto" placeholder:"auto|off" help:"off: change nothing in the database, print the SQL that is missing, and exit with 2."`
	ColumnLists  string        `name:"cdc-column-lists" env:"CDC_COLUMN_LISTS" default:"off" placeholder:"on|off" help:"on: publish only the columns that rules need."`
	FirstStart   string        `name:"cdc-first-start" env:"CDC_FIRST_START" default:"sweep" placeholder:"sweep|trust" help:"trust: believe what caches hold from before the first start."`
	EpochOnCrash string        `name:"cdc-epoch-on-crash" env:"CDC_EPOCH_ON_CRASH" default:"always" placeholder:"always|never" help:"never: believe that a crash of PostgreSQL lost no commit."`
	HTTP         string        `name:"cdc-http" env:"CDC_HTTP" default:"127.0.0.1:8081" placeholder:"HOST:PORT" help:"Where /livez, /readyz, /status and /metrics are."`
	Heartbeat    time.Duration `name:"heartbeat" env:"HEARTBEAT" default:"2s" placeholder:"DURATION" help:"How often progress is proved while nothing changes."`
}

var databaseName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// Check reports all that is wrong.
func (c CDC) Check() (problems Problems) {
	for _, name := range []struct{ setting, value string }{{"CDC_SLOT", c.Slot}, {"CDC_PUBLICATION", c.Publication}} {
		if !databaseName.MatchString(name.value) {
			problems = append(problems, Problem{
				name.setting, fmt.Sprintf("%q is not a name", name.value), "1 to 63 of a-z, 0-9 and _, for example walfence",
			})
		}
	}
	problems = append(problems, oneOf("CDC_SETUP", c.Setup, "auto", "off")...)
	problems = append(problems, oneOf("CDC_COLUMN_LISTS", c.ColumnLists, "on", "off")...)
	problems = append(problems, oneOf("CDC_FIRST_START", c.FirstStart, "sweep", "trust")...)
	problems = append(problems, oneOf("CDC_EPOCH_ON_CRASH", c.EpochOnCrash, "always", "never")...)
	if cause := checkListen(c.HTTP); cause != "" {
		problems = append(problems, Problem{"CDC_HTTP", cause, "for example 127.0.0.1:8081"})
	}
	if c.Heartbeat < 100*time.Millisecond || c.Heartbeat > time.Minute {
		problems = append(problems, Problem{"HEARTBEAT", fmt.Sprintf("%v is not possible", c.Heartbeat), "from 100ms to 1m, for example 2s"})
	}
	return problems
}

// Invalidator is what is set for invalidator alone.
type Invalidator struct {
	Workers int    `name:"workers" env:"WORKERS" default:"${cores}" placeholder:"N" help:"How many batches are applied at a time."`
	HTTP    string `name:"invalidator-http" env:"INVALIDATOR_HTTP" default:"127.0.0.1:8082" placeholder:"HOST:PORT" help:"Where /livez, /readyz, /status and /metrics are."`
}

// Check reports all that is wrong.
func (i Invalidator) Check() (problems Problems) {
	if i.Workers < 1 || i.Workers > 1024 {
		problems = append(problems, Problem{"WORKERS", fmt.Sprintf("%d is not possible", i.Workers), "from 1 to 1024"})
	}
	if cause := checkListen(i.HTTP); cause != "" {
		problems = append(problems, Problem{"INVALIDATOR_HTTP", cause, "for example 127.0.0.1:8082"})
	}
	return problems
}

// Log is how a program talks.
type Log struct {
	Level  string `name:"log-level" env:"LOG_LEVEL" default:"info" placeholder:"LEVEL" help:"debug, info, warn or error."`
	Format string `name:"log-format" env:"LOG_FORMAT" placeholder:"json|console" help:"json, or console for people. By default console on a terminal and json elsewhere."`
}

// Check reports all that is wrong.
func (l Log) Check() Problems {
	problems := oneOf("LOG_LEVEL", l.Level, "debug", "info", "warn", "error")
	if l.Format != "" {
		problems = append(problems, oneOf("LOG_FORMAT", l.Format, "json", "console")...)
	}
	return problems
}

func oneOf(setting, value string, values ...string) Problems {
	if slices.Contains(values, value) {
		return nil
	}
	return Problems{{setting, fmt.Sprintf("unknown value %q", value), "one of " + strings.Join(values, ", ")}}
}
