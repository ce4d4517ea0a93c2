// Greets: sets one response header, and answers one path by itself. Both come from the plugin's configuration.
//
// The law: a plugin context owns its settings, a stream context borrows those of its parent.
package main

import (
	"cmp"
	"errors"
	"strings"

	"waspgate.example/plugins/conf"
	"waspgate.example/plugins/proxywasm"
)

type settings struct {
	Header      string `json:"header"`
	Value       string `json:"value"`
	ReplyPath   string `json:"reply_path"`
	ReplyStatus uint32 `json:"reply_status"`
	ReplyBody   string `json:"reply_body"`
}

func (s *settings) Check() error {
	if s.ReplyStatus < 200 || s.ReplyStatus > 599 {
		return errors.New("a number from 200 to 599 is expected for reply_status")
	}
	return cmp.Or(conf.Name(s.Header), conf.Line("value", s.Value), conf.Path("reply_path", s.ReplyPath))
}

// Of plugin contexts and of stream contexts, by id.
var contexts = map[uint32]*settings{}

//go:wasmexport proxy_on_context_create
func onContextCreate(id, parent uint32) {
	if parent != 0 {
		contexts[id] = contexts[parent]
	}
}

//go:wasmexport proxy_on_configure
func onConfigure(id, size uint32) bool {
	contexts[id] = &settings{Header: "x-greeting", ReplyStatus: 403}
	return conf.Read("greeting", size, contexts[id])
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(id, _ uint32, _ bool) proxywasm.Action {
	s := contexts[id]
	path, _ := proxywasm.Header(proxywasm.RequestHeaders, ":path")
	path, _, _ = strings.Cut(path, "?")
	if s.ReplyPath == "" || path != s.ReplyPath {
		return proxywasm.Continue
	}
	proxywasm.SendLocalResponse(s.ReplyStatus, "greeting", s.ReplyBody)
	return proxywasm.Pause
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(id, _ uint32, _ bool) proxywasm.Action {
	s := contexts[id]
	proxywasm.SetHeader(proxywasm.ResponseHeaders, s.Header, s.Value)
	return proxywasm.Continue
}

//go:wasmexport proxy_on_delete
func onDelete(id uint32) { delete(contexts, id) }

func main() {}
