// Rewrites requests and responses: removes, sets and adds headers, and replaces texts in bodies.
//
// The law: a body is changed as a whole or not at all, and one that is encoded (compressed) or of another type is left alone.
package main

import (
	"bytes"
	"strings"

	"waspgate.example/plugins/conf"
	"waspgate.example/plugins/proxywasm"
)

// stream is one request: `searched` says for each direction whether its body is collected to be changed.
type stream struct {
	settings *settings
	searched [2]bool
}

var plugins = map[uint32]*settings{}
var streams = map[uint32]*stream{}

//go:wasmexport proxy_on_context_create
func onContextCreate(id, parent uint32) {
	if parent != 0 {
		streams[id] = &stream{settings: plugins[parent]}
	}
}

//go:wasmexport proxy_on_configure
func onConfigure(id, size uint32) bool {
	plugins[id] = &settings{}
	return conf.Read("rewrite", size, plugins[id])
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(id, _ uint32, endOfStream bool) proxywasm.Action {
	s := streams[id]
	s.searched[proxywasm.RequestBody] = s.settings.Request.apply(proxywasm.RequestHeaders) && !endOfStream
	return proxywasm.Continue
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(id, _ uint32, endOfStream bool) proxywasm.Action {
	s := streams[id]
	s.searched[proxywasm.ResponseBody] = s.settings.Response.apply(proxywasm.ResponseHeaders) && !endOfStream
	return proxywasm.Continue
}

//go:wasmexport proxy_on_request_body
func onRequestBody(id, size uint32, endOfStream bool) proxywasm.Action {
	s := streams[id]
	return s.body(proxywasm.RequestBody, s.settings.Request.Replace, size, endOfStream)
}

//go:wasmexport proxy_on_response_body
func onResponseBody(id, size uint32, endOfStream bool) proxywasm.Action {
	s := streams[id]
	return s.body(proxywasm.ResponseBody, s.settings.Response.Replace, size, endOfStream)
}

//go:wasmexport proxy_on_delete
func onDelete(id uint32) {
	delete(streams, id)
	delete(plugins, id)
}

// apply changes the headers. True: the body is to be searched.
func (r *rules) apply(m proxywasm.Map) bool {
	searched := len(r.Replace) > 0 && r.reads(m)
	for _, name := range r.Remove {
		proxywasm.RemoveHeader(m, name)
	}
	for name, value := range r.Set {
		proxywasm.SetHeader(m, name, value)
	}
	for name, value := range r.Add {
		proxywasm.AddHeader(m, name, value)
	}
	if searched {
		// Of the length that the body had; the gateway writes the new one.
		proxywasm.RemoveHeader(m, "content-length")
	}
	return searched
}

func (r *rules) reads(m proxywasm.Map) bool {
	if encoding, found := proxywasm.Header(m, "content-encoding"); found && !strings.EqualFold(encoding, "identity") {
		return false
	}
	sent, _ := proxywasm.Header(m, "content-type")
	sent = strings.ToLower(sent)
	for _, wanted := range r.ContentTypes {
		if strings.HasPrefix(sent, strings.ToLower(wanted)) {
			return true
		}
	}
	return len(r.ContentTypes) == 0
}

// body is called with all that has been held so far, since a text may begin in one piece and end in the next.
func (s *stream) body(buffer proxywasm.Buffer, replacements []replacement, size uint32, endOfStream bool) proxywasm.Action {
	if !s.searched[buffer] {
		return proxywasm.Continue
	}
	if !endOfStream {
		return proxywasm.Pause
	}
	before, err := proxywasm.Bytes(buffer, 0, size)
	if err != nil {
		return proxywasm.Continue
	}
	after := before
	for _, r := range replacements {
		after = bytes.ReplaceAll(after, []byte(r.Find), []byte(r.With))
	}
	if !bytes.Equal(after, before) {
		if err := proxywasm.ReplaceBytes(buffer, 0, size, after); err != nil {
			proxywasm.Logf(proxywasm.Error, "rewrite: a body of %d bytes stays as it was: %v", size, err)
		}
	}
	return proxywasm.Continue
}

func main() {}
