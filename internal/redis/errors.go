package redis

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// operator lists the beginnings of Redis' errors that only somebody who changes a configuration can mend.
var operator = []string{
	"WRONGPASS", "NOAUTH", "NOPERM", "DENIED", "ERR unknown command", "ERR unknown subcommand", "ERR invalid password",
	"ERR AUTH", "ERR DB index is out of range", "ERR invalid DB index",
}

// Permanent reports whether an error stays until somebody changes a configuration: a wrong password, a missing right, a
// certificate that is not trusted. Everything else (away, loading, read-only, out of memory, on the move) passes by itself.
// Both are worth trying again; only the second in silence.
func Permanent(err error) bool {
	var reply redis.Error
	if errors.As(err, &reply) {
		for _, prefix := range operator {
			if strings.HasPrefix(reply.Error(), prefix) {
				return true
			}
		}
		return false
	}
	var untrusted *tls.CertificateVerificationError
	var hostname x509.HostnameError
	return errors.As(err, &untrusted) || errors.As(err, &hostname)
}

// Retryable reports whether an error can pass by itself.
func Retryable(err error) bool { return err != nil && !Permanent(err) }

// Cause names an error's kind in one of a few words, for a metric's label.
func Cause(err error) string {
	var reply redis.Error
	var network net.Error
	switch {
	case err == nil:
		return ""
	case errors.Is(err, context.Canceled):
		return "canceled"
	case Permanent(err):
		return "denied"
	case errors.As(err, &reply):
		return replyCause(reply.Error())
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return "timeout"
	case errors.Is(err, io.EOF), errors.As(err, &network):
		return "network"
	}
	return "other"
}

func replyCause(message string) string {
	word, _, _ := strings.Cut(message, " ")
	switch word {
	case "READONLY", "LOADING", "CLUSTERDOWN", "TRYAGAIN", "MASTERDOWN", "NOREPLICAS", "OOM", "MISCONF", "MOVED", "ASK", "BUSY":
		return strings.ToLower(word)
	}
	return "other"
}
