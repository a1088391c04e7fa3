package tracing

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

type moody struct{ err error }

func (m *moody) ExportSpans(context.Context, []sdk.ReadOnlySpan) error { return m.err }
func (m *moody) Shutdown(context.Context) error                        { return nil }

func TestFailuresOfTheExporterAreTwoLines(t *testing.T) {
	var log bytes.Buffer
	under := &moody{err: errors.New("refused")}
	e := &exporter{SpanExporter: under, life: t.Context(), log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 100 {
		require.NoError(t, e.ExportSpans(t.Context(), make([]sdk.ReadOnlySpan, 3)))
	}
	under.err = nil
	for range 100 {
		require.NoError(t, e.ExportSpans(t.Context(), make([]sdk.ReadOnlySpan, 3)))
	}
	require.Equal(t, 2, strings.Count(log.String(), "\n"), log.String())
	require.Contains(t, log.String(), "lost=300")
}
