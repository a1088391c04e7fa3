package mail

import (
	"context"
	"fmt"
)

// Check connects to the mail server as sending does, with TLS and password where they are set, and sends nothing. Where there is
// no SMTP it has nothing to do.
func (m *Mailer) Check(ctx context.Context) error {
	if m.client == nil {
		return nil
	}
	if err := m.client.DialWithContext(ctx); err != nil {
		return fmt.Errorf("connect to mail server: %w", err)
	}
	return m.client.Close()
}
