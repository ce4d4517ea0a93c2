package proxywasm

import (
	"encoding/binary"
	"unsafe"
)

//go:wasmimport env proxy_get_header_map_value
func hostGetHeader(m Map, name string, address, size unsafe.Pointer) Status

//go:wasmimport env proxy_add_header_map_value
func hostAddHeader(m Map, name, value string) Status

//go:wasmimport env proxy_replace_header_map_value
func hostReplaceHeader(m Map, name, value string) Status

//go:wasmimport env proxy_remove_header_map_value
func hostRemoveHeader(m Map, name string) Status

//go:wasmimport env proxy_get_header_map_pairs
func hostGetHeaders(m Map, address, size unsafe.Pointer) Status

//go:wasmimport env proxy_get_buffer_bytes
func hostGetBuffer(b Buffer, start, max uint32, address, size unsafe.Pointer) Status

//go:wasmimport env proxy_set_buffer_bytes
func hostSetBuffer(b Buffer, start, replaced uint32, data string) Status

//go:wasmimport env proxy_send_local_response
func hostSendLocalResponse(code uint32, details, body, headers string, grpcStatus uint32) Status

//go:wasmimport env proxy_continue_stream
func hostContinueStream(s Stream) Status

// Header is the value of the first header of this name.
func Header(m Map, name string) (value string, found bool) {
	var out answer
	address, size := out.outputs()
	status := hostGetHeader(m, name, address, size)
	return string(out.take()), status == OK
}

// Headers is the whole map in its order.
func Headers(m Map) ([]Field, error) {
	var out answer
	address, size := out.outputs()
	if status := hostGetHeaders(m, address, size); status != OK {
		return nil, status
	}
	return decode(out.take()), nil
}

func AddHeader(m Map, name, value string) error { return hostAddHeader(m, name, value).err() }

// SetHeader leaves one header of this name.
func SetHeader(m Map, name, value string) error { return hostReplaceHeader(m, name, value).err() }

func RemoveHeader(m Map, name string) error { return hostRemoveHeader(m, name).err() }

// Bytes is at most `size` bytes of a buffer from `start` on. The slice is the plugin's own.
func Bytes(b Buffer, start, size uint32) ([]byte, error) {
	var out answer
	address, length := out.outputs()
	status := hostGetBuffer(b, start, size, address, length)
	return out.take(), status.err()
}

// ReplaceBytes puts data in the place of a part of a buffer: 0 and ^uint32(0) for all of it.
func ReplaceBytes(b Buffer, start, replaced uint32, data []byte) error {
	return hostSetBuffer(b, start, replaced, text(data)).err()
}

// SendLocalResponse answers the request in the upstream's place, after the callback returned.
func SendLocalResponse(code uint32, details, body string, headers ...Field) error {
	return hostSendLocalResponse(code, details, body, encode(headers), NoGRPCStatus).err()
}

// ContinueStream ends a pause of the current stream.
func ContinueStream(s Stream) error { return hostContinueStream(s).err() }

// encode writes headers as the ABI does: their number, the sizes of all names and values, then these, each with a NUL.
func encode(fields []Field) string {
	if len(fields) == 0 {
		return ""
	}
	data := binary.LittleEndian.AppendUint32(nil, uint32(len(fields)))
	for _, field := range fields {
		data = binary.LittleEndian.AppendUint32(data, uint32(len(field.Name)))
		data = binary.LittleEndian.AppendUint32(data, uint32(len(field.Value)))
	}
	for _, field := range fields {
		data = append(append(data, field.Name...), 0)
		data = append(append(data, field.Value...), 0)
	}
	return string(data)
}

func decode(data []byte) []Field {
	if len(data) < 4 {
		return nil
	}
	count := int(binary.LittleEndian.Uint32(data))
	fields, text := make([]Field, count), data[4+8*count:]
	cut := func(at int) string {
		size := binary.LittleEndian.Uint32(data[at:])
		part := string(text[:size])
		text = text[size+1:]
		return part
	}
	for i := range fields {
		fields[i] = Field{Name: cut(4 + 8*i), Value: cut(8 + 8*i)}
	}
	return fields
}
