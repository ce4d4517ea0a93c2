// Greets: sets one response header, and answers one path by itself. Both come from the plugin's configuration.
//
// The law: a plugin context owns its settings, a stream context borrows those of its parent.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"waspgate.example/plugins/proxywasm"
)

type settings struct {
	Header      string `json:"header"`
	Value       string `json:"value"`
	ReplyPath   string `json:"reply_path"`
	ReplyStatus uint32 `json:"reply_status"`
	ReplyBody   string `json:"reply_body"`
}

// Of plugin contexts and of stream contexts, by id.
var contexts = map[uint32]*settings{}

// A field name as RFC 9110 section 5.1 wants it.
var token = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")

func isControl(r rune) bool { return r < ' ' || r == 127 }

func (s *settings) check() error {
	switch {
	case !token.MatchString(s.Header):
		return fmt.Errorf("not a header name: %s", s.Header)
	case s.Value == "" || strings.ContainsFunc(s.Value, isControl):
		return errors.New("one line of text is expected for value")
	case s.ReplyPath != "" && s.ReplyPath[0] != '/':
		return errors.New("a path that begins with / is expected for reply_path")
	case s.ReplyStatus < 200 || s.ReplyStatus > 599:
		return errors.New("a number from 200 to 599 is expected for reply_status")
	}
	return nil
}

func parse(document []byte) (*settings, error) {
	s := &settings{Header: "x-greeting", ReplyStatus: 403}
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(s); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, errors.New("text after the object")
	}
	return s, s.check()
}

//go:wasmexport proxy_on_context_create
func onContextCreate(id, parent uint32) {
	if parent != 0 {
		contexts[id] = contexts[parent]
	}
}

//go:wasmexport proxy_on_configure
func onConfigure(id, size uint32) bool {
	document, err := proxywasm.Bytes(proxywasm.PluginConfiguration, 0, size)
	if err == nil {
		contexts[id], err = parse(document)
	}
	if err != nil {
		proxywasm.Logf(proxywasm.Error, "greeting: bad configuration: %v", err)
	}
	return err == nil
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
