// The law: a plugin context (one for each route) owns its greeting, a stream context (one for each request) borrows it.
package main

import "{{name}}/proxywasm"

var greetings = map[uint32]string{}

//go:wasmexport proxy_on_context_create
func onContextCreate(id, parent uint32) {
	if parent != 0 {
		greetings[id] = greetings[parent]
	}
}

//go:wasmexport proxy_on_configure
func onConfigure(id, size uint32) bool {
	conf, _ := proxywasm.Bytes(proxywasm.PluginConfiguration, 0, size)
	greetings[id] = string(conf)
	if len(conf) == 0 {
		proxywasm.Logf(proxywasm.Error, "bad configuration: a text is expected")
	}
	return len(conf) > 0
}

//go:wasmexport proxy_on_response_headers
func onResponseHeaders(id, _ uint32, _ bool) proxywasm.Action {
	proxywasm.SetHeader(proxywasm.ResponseHeaders, "x-greeting", greetings[id])
	return proxywasm.Continue
}

//go:wasmexport proxy_on_delete
func onDelete(id uint32) { delete(greetings, id) }

func main() {}
