package proxywasm

import (
	"time"
	"unsafe"
)

//go:wasmimport env proxy_get_shared_data
func hostGetSharedData(key string, address, size, cas unsafe.Pointer) Status

//go:wasmimport env proxy_set_shared_data
func hostSetSharedData(key, value string, cas uint32) Status

//go:wasmimport env proxy_register_shared_queue
func hostRegisterQueue(name string, queue unsafe.Pointer) Status

//go:wasmimport env proxy_enqueue_shared_queue
func hostEnqueue(queue uint32, item string) Status

//go:wasmimport env proxy_dequeue_shared_queue
func hostDequeue(queue uint32, address, size unsafe.Pointer) Status

//go:wasmimport env proxy_http_call
func hostHTTPCall(upstream, headers, body, trailers string, timeout uint32, call unsafe.Pointer) Status

// SharedData is what any worker has set last under a key, and the number to hand to SetSharedData.
func SharedData(key string) (value []byte, cas uint32, err error) {
	var out answer
	address, size := out.outputs()
	status := hostGetSharedData(key, address, size, unsafe.Pointer(&cas))
	return out.take(), cas, status.err()
}

// SetSharedData fails with CasMismatch when the value is no longer the one that was read; 0 sets it in any case.
func SetSharedData(key string, value []byte, cas uint32) error {
	return hostSetSharedData(key, text(value), cas).err()
}

// RegisterQueue opens a queue by its name and has proxy_on_queue_ready called for the current plugin context.
func RegisterQueue(name string) (queue uint32, err error) {
	status := hostRegisterQueue(name, unsafe.Pointer(&queue))
	return queue, status.err()
}

func Enqueue(queue uint32, item []byte) error { return hostEnqueue(queue, text(item)).err() }

// Dequeue fails with Empty when nothing waits.
func Dequeue(queue uint32) ([]byte, error) {
	var out answer
	address, size := out.outputs()
	status := hostDequeue(queue, address, size)
	return out.take(), status.err()
}

// HTTPCall asks an upstream; the headers must have :method, :path and :authority. proxy_on_http_call_response tells how it went.
func HTTPCall(upstream string, headers []Field, body []byte, timeout time.Duration) (call uint32, err error) {
	status := hostHTTPCall(upstream, encode(headers), text(body), "", uint32(timeout.Milliseconds()), unsafe.Pointer(&call))
	return call, status.err()
}

// text is the bytes as a string that the host only reads, without a copy.
func text(data []byte) string { return unsafe.String(unsafe.SliceData(data), len(data)) }
