// Package proxywasm is the Proxy-Wasm ABI, version 0.2.1, for plugins that Go's own compiler builds (1.24 or newer).
//
// The law: the functions are the ABI's, with Go's strings and slices for its pointers and sizes, so that its specification is
// this package's manual. A plugin exports the callbacks it wants with `//go:wasmexport proxy_on_...`; one that it does not
// export costs nothing. A function that is not called is no import of the module.
package proxywasm

import "unsafe"

type (
	Status   uint32
	LogLevel uint32
	Action   uint32
	Map      uint32
	Buffer   uint32
	Stream   uint32
)

const (
	OK                  Status = 0
	NotFound            Status = 1
	BadArgument         Status = 2
	InvalidMemoryAccess Status = 6
	Empty               Status = 7
	CasMismatch         Status = 8
	InternalFailure     Status = 10
	Unimplemented       Status = 12
)

const (
	Trace LogLevel = iota
	Debug
	Info
	Warn
	Error
	Critical
)

const (
	Continue Action = 0
	Pause    Action = 1
)

const (
	RequestHeaders           Map = 0
	RequestTrailers          Map = 1
	ResponseHeaders          Map = 2
	ResponseTrailers         Map = 3
	HTTPCallResponseHeaders  Map = 6
	HTTPCallResponseTrailers Map = 7
)

const (
	RequestBody          Buffer = 0
	ResponseBody         Buffer = 1
	HTTPCallResponseBody Buffer = 4
	VMConfiguration      Buffer = 6
	PluginConfiguration  Buffer = 7
)

const (
	RequestStream  Stream = 0
	ResponseStream Stream = 1
)

// NoGRPCStatus in SendLocalResponse: the status is chosen by the host.
const NoGRPCStatus = ^uint32(0)

// Field is one header; a map may hold several of one name.
type Field struct{ Name, Value string }

//go:wasmexport proxy_abi_version_0_2_1
func abiVersion() {}

// What the host allocated for an answer and this package has not taken yet: the garbage collector must see it.
var handedOver = map[uintptr][]byte{}

//go:wasmexport proxy_on_memory_allocate
func allocate(size uint32) unsafe.Pointer {
	block := make([]byte, max(size, 1))
	address := unsafe.Pointer(&block[0])
	handedOver[uintptr(address)] = block
	return address
}

// answer is where the host stores the address and the size of what it allocated.
type answer struct{ address, size uint32 }

func (a *answer) outputs() (address, size unsafe.Pointer) {
	return unsafe.Pointer(&a.address), unsafe.Pointer(&a.size)
}

func (a *answer) take() []byte {
	if a.address == 0 {
		return nil
	}
	block := handedOver[uintptr(a.address)]
	delete(handedOver, uintptr(a.address))
	return block[:a.size]
}

func (s Status) Error() string {
	switch s {
	case OK:
		return "ok"
	case NotFound:
		return "not found"
	case BadArgument:
		return "bad argument"
	case Empty:
		return "empty"
	case CasMismatch:
		return "changed by somebody else"
	case InternalFailure:
		return "internal failure"
	case Unimplemented:
		return "not implemented by this host"
	}
	return "failed"
}

// err is nil for OK.
func (s Status) err() error {
	if s == OK {
		return nil
	}
	return s
}
