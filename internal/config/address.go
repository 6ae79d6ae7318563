package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

var (
	schemesPostgres = map[string]bool{"postgres": true, "postgresql": true}
	schemesNATS     = map[string]bool{"nats": true, "tls": true, "ws": true, "wss": true}
	schemesRedis    = map[string]bool{
		"redis": true, "rediss": true, "redis-cluster": true, "rediss-cluster": true, "redis-sentinel": true, "rediss-sentinel": true,
	}
)

const encodeHint = "write special characters of a password as %XX, such as %2F for / and %40 for @"

// checkURL looks for what can be seen without connecting. Its words never repeat the URL, which may hold a password.
func checkURL(text string, schemes map[string]bool) (cause string) {
	scheme, rest, ok := strings.Cut(text, "://")
	switch {
	case !ok:
		return "it is not a URL"
	case !schemes[scheme]:
		return fmt.Sprintf("unknown scheme %q, want one of %s", scheme, strings.Join(slices.Sorted(maps.Keys(schemes)), ", "))
	}
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		if authority = rest[:end]; strings.ContainsRune(rest[end:], '@') {
			return encodeHint
		}
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		if _, err := url.PathUnescape(authority[:at]); err != nil {
			return encodeHint
		}
		authority = authority[at+1:]
	}
	for host := range strings.SplitSeq(authority, ",") {
		if cause := checkHost(host); cause != "" {
			return cause
		}
	}
	return ""
}

// checkHost takes host, host:port, [IPv6] and [IPv6]:port.
func checkHost(host string) (cause string) {
	name, port := host, ""
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		name, port = host[:i], host[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "a port is not a number from 1 to 65535"
		}
	}
	if name == "" {
		return "a host is missing"
	}
	return ""
}

// checkDatabaseURL takes what libpq takes: a URL, or host=... dbname=... .
func checkDatabaseURL(text string) (cause string) {
	if strings.Contains(text, "://") {
		authority := strings.TrimLeft(strings.SplitN(text, "://", 2)[1], "/")
		socket := strings.Contains(text, ":///") || strings.Contains(authority, "@/")
		if cause := checkURL(text, schemesPostgres); cause != "" && !(socket && cause == "a host is missing") {
			return cause
		}
	} else if !strings.Contains(text, "=") {
		return "it is not a URL"
	}
	_, err := pgconn.ParseConfig(text)
	var unread *url.Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &unread):
		return encodeHint
	}
	// The error repeats the URL in backquotes, then says what is wrong with it.
	text = err.Error()
	return Redact(text[strings.LastIndex(text, "`: ")+len("`: "):])
}

// checkListen takes host:port, where port 0 means any free one.
func checkListen(address string) (cause string) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Sprintf("%q is not host:port", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Sprintf("port %q is not a number from 0 to 65535", port)
	}
	return ""
}
