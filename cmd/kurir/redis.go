package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// errRedisURL does not tell the cause: that holds the URL.
var errRedisURL = errors.New("REDIS_URL cannot be read: expected redis://:password@host:6379, redis-sentinel://:password@host:26379,host:26379?master=name or " +
	"redis-cluster://:password@host:6379,host:6379, each with rediss in place of redis for TLS, and with special characters of the password as %XX")

// openRedis makes a client of one Redis, of one that Sentinels watch over, or of a cluster, as the scheme says. It does not connect.
func openRedis(text string) (redis.UniversalClient, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errRedisURL
	}
	secure, err := takeTLS(u)
	if err != nil {
		return nil, err
	}
	if base, form, _ := strings.Cut(u.Scheme, "-"); form == "sentinel" || form == "cluster" {
		if base != "redis" && base != "rediss" {
			return nil, errRedisURL
		}
		return openSeveral(u, form, secure)
	}
	o, err := redis.ParseURL(u.String())
	if err != nil {
		return nil, errRedisURL
	}
	if secure != nil { // so the library has made one too
		o.TLSConfig.RootCAs, o.TLSConfig.Certificates = secure.RootCAs, secure.Certificates
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = redisDial, redisAnswer, redisAnswer
	o.ContextTimeoutEnabled, o.PoolSize = true, redisConns
	return redis.NewClient(o), nil
}

const (
	redisDial   = time.Second
	redisAnswer = 3 * time.Second
	redisConns  = 64 // to one server
)

// openSeveral reads what names several servers. The password before the @ is that of Redis, as everywhere; Sentinels may have
// another one.
func openSeveral(u *url.URL, form string, secure *tls.Config) (redis.UniversalClient, error) {
	port := map[string]string{"sentinel": "26379", "cluster": "6379"}[form]
	o := &redis.UniversalOptions{TLSConfig: secure, DialTimeout: redisDial, ReadTimeout: redisAnswer, WriteTimeout: redisAnswer,
		ContextTimeoutEnabled: true, PoolSize: redisConns, IsClusterMode: form == "cluster"}
	for host := range strings.SplitSeq(u.Host, ",") {
		if host == "" {
			return nil, errRedisURL
		}
		if !strings.Contains(host, ":") {
			host = net.JoinHostPort(host, port)
		}
		o.Addrs = append(o.Addrs, host)
	}
	o.Username = u.User.Username()
	o.Password, _ = u.User.Password()
	var err error
	if number := strings.Trim(u.Path, "/"); number != "" {
		if o.DB, err = strconv.Atoi(number); err != nil || o.DB < 0 {
			return nil, errRedisURL
		}
	}
	if o.DB != 0 && o.IsClusterMode {
		return nil, errors.New("REDIS_URL: a cluster has no database but 0")
	}
	for name, values := range u.Query() {
		switch value := values[len(values)-1]; {
		case name == "master" && !o.IsClusterMode:
			o.MasterName = value
		case name == "sentinel_username" && !o.IsClusterMode:
			o.SentinelUsername = value
		case name == "sentinel_password" && !o.IsClusterMode:
			o.SentinelPassword = value
		default:
			return nil, fmt.Errorf("REDIS_URL: %s:// knows no parameter %q", u.Scheme, name)
		}
	}
	if !o.IsClusterMode && o.MasterName == "" {
		return nil, errors.New("REDIS_URL: redis-sentinel:// needs ?master= with the name under which the Sentinels know the master")
	}
	return redis.NewUniversalClient(o), nil
}

// takeTLS takes the certificates out of the parameters, which are named as redis-cli's: cacert, cert and key. It returns nil where
// there is no TLS.
func takeTLS(u *url.URL) (*tls.Config, error) {
	q := u.Query()
	ca, cert, key := q.Get("cacert"), q.Get("cert"), q.Get("key")
	if !strings.HasPrefix(u.Scheme, "rediss") {
		if ca+cert+key != "" {
			return nil, errors.New("REDIS_URL: cacert, cert and key are of TLS, which rediss:// speaks")
		}
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, fmt.Errorf("REDIS_URL: cacert: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("REDIS_URL: cacert: there is no certificate in the file")
		}
	}
	if cert+key != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("REDIS_URL: cert and key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	for _, name := range []string{"cacert", "cert", "key"} {
		q.Del(name)
	}
	u.RawQuery = q.Encode()
	return c, nil
}

// redisLook bounds the look at Redis when a process starts.
const redisLook = time.Second

// misdirected looks whether what REDIS_URL leads to is of another kind than it says, which no waiting mends. A Redis that is down is
// no such thing, nor is one that says little of itself.
func misdirected(ctx context.Context, client redis.UniversalClient) error {
	ctx, cancel := context.WithTimeout(ctx, redisLook)
	defer cancel()
	if err := client.Ping(ctx).Err(); err != nil {
		return wrongRedis(err)
	}
	if _, several := client.(*redis.ClusterClient); several {
		return nil
	}
	info, _ := infoOf(ctx, client) // some let nobody read it
	switch {
	case info["redis_mode"] == "sentinel":
		return errors.New("REDIS_URL leads to a Sentinel: write redis-sentinel://:password@host:26379,host:26379?master=name")
	case info["redis_mode"] == "cluster":
		return errors.New("REDIS_URL leads to a node of a cluster: write redis-cluster://:password@host:6379,host:6379")
	case info["role"] == "slave":
		return errors.New("REDIS_URL leads to a replica, which takes no writes: name its master, or the Sentinels that know it")
	}
	return nil
}

// wrongRedis is an error that says that something else than Redis as it is expected answers; nil for all others.
func wrongRedis(err error) error {
	var untrusted *tls.CertificateVerificationError
	text := err.Error()
	switch {
	case errors.As(err, &untrusted):
		return fmt.Errorf("the certificate of Redis is not to be trusted: cacert in REDIS_URL has to name that of the authority which signed it, and it has to be made out to the host there: %w", err)
	case strings.Contains(text, "cluster support disabled"):
		return fmt.Errorf("REDIS_URL says redis-cluster, but what it leads to is no cluster: %w", err)
	case strings.Contains(strings.ToLower(text), "unknown command") && strings.Contains(strings.ToLower(text), "sentinel"):
		return fmt.Errorf("REDIS_URL says redis-sentinel, but what it leads to is no Sentinel: %w", err)
	case errors.Is(err, redis.Nil):
		return errors.New("REDIS_URL: the Sentinels know no master of that name")
	}
	return nil
}
