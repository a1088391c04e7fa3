package models

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// Advice says what to do about an error of a connection that no waiting mends: how PostgreSQL is reached has to be changed. It
// is empty for all others.
func Advice(err error) string {
	var pg *pgconn.PgError
	var unprepared *PlainPooledError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &unprepared):
		return "DATABASE_URL leads to a pooler without prepared statements: set its max_prepared_statements (PgBouncer 1.21 and later), or add default_query_exec_mode=cache_describe to the URL. See docs/databases.md."
	case errors.As(err, &pg) && strings.Contains(pg.Message, "unsupported startup parameter"):
		return "A pooler answers where PostgreSQL itself is expected: DATABASE_URL may lead to one if DATABASE_DIRECT_URL leads to PostgreSQL itself. See docs/databases.md."
	case strings.Contains(err.Error(), "server refused TLS connection"):
		return "PostgreSQL speaks no TLS there, which sslmode demands: switch it on in PostgreSQL (ssl = on)."
	case untrusted(err):
		return "The server's certificate is not to be trusted: sslrootcert has to name the certificate of the authority that signed it, and with sslmode=verify-full it has to be made out to the host in the URL. See docs/databases.md."
	}
	return ""
}

func untrusted(err error) bool {
	var (
		refused   *tls.CertificateVerificationError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	return errors.As(err, &refused) || errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
}
