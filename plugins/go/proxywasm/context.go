package proxywasm

import (
	"fmt"
	"time"
	"unsafe"
)

//go:wasmimport env proxy_log
func hostLog(level LogLevel, message string) Status

//go:wasmimport env proxy_get_current_time_nanoseconds
func hostCurrentTime(out unsafe.Pointer) Status

//go:wasmimport env proxy_set_tick_period_milliseconds
func hostSetTickPeriod(milliseconds uint32) Status

//go:wasmimport env proxy_get_property
func hostGetProperty(path string, address, size unsafe.Pointer) Status

// Logf writes one line to the gateway's log.
func Logf(level LogLevel, format string, arguments ...any) {
	hostLog(level, fmt.Sprintf(format, arguments...))
}

// Now is the host's time.
func Now() time.Time {
	var nanoseconds int64
	hostCurrentTime(unsafe.Pointer(&nanoseconds))
	return time.Unix(0, nanoseconds)
}

// SetTickPeriod has proxy_on_tick called for the current plugin context so often; 0 ends it.
func SetTickPeriod(period time.Duration) { hostSetTickPeriod(uint32(period.Milliseconds())) }

// Property is the value at a path, encoded as the specification says for its type.
func Property(path ...string) ([]byte, error) {
	joined := ""
	for i, part := range path {
		if i > 0 {
			joined += "\x00"
		}
		joined += part
	}
	var out answer
	address, size := out.outputs()
	status := hostGetProperty(joined, address, size)
	return out.take(), status.err()
}
