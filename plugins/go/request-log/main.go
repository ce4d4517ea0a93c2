// Logs requests: each as a line of JSON through a shared queue, from which a timer takes them in batches to a collector.
//
// The law: a request never waits for its log line. What the collector did not take is sent again, until it has it; what does not
// fit the queue is lost and counted.
package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"time"

	"waspgate.example/plugins/conf"
	"waspgate.example/plugins/proxywasm"
)

const queueName = "request-log"

type settings struct {
	Upstream   string   `json:"upstream"`
	Path       string   `json:"path"`
	IntervalMs uint32   `json:"interval_ms"`
	TimeoutMs  uint32   `json:"timeout_ms"`
	Batch      int      `json:"batch"`
	Headers    []string `json:"headers"`
}

func (s *settings) Check() error {
	for _, name := range s.Headers {
		if err := conf.Name(name); err != nil {
			return err
		}
	}
	switch {
	case s.IntervalMs < 10 || s.IntervalMs > 3_600_000:
		return errors.New("a number from 10 to 3600000 is expected for interval_ms")
	case s.TimeoutMs < 1 || s.TimeoutMs > 60_000:
		return errors.New("a number from 1 to 60000 is expected for timeout_ms")
	case s.Batch < 1 || s.Batch > 10_000:
		return errors.New("a number from 1 to 10000 is expected for batch")
	}
	return conf.Path("path", s.Path)
}

// plugin is one plugin context. `unsent` is the batch that the collector has not taken yet, `asking` while it is asked.
type plugin struct {
	settings
	queue  uint32
	unsent [][]byte
	asking bool
	lost   int
}

var plugins = map[uint32]*plugin{}
var streams = map[uint32]*plugin{}

//go:wasmexport proxy_on_context_create
func onContextCreate(id, parent uint32) {
	if parent == 0 {
		plugins[id] = &plugin{settings: settings{Path: "/", IntervalMs: 1000, TimeoutMs: 5000, Batch: 100}}
	} else {
		streams[id] = plugins[parent]
	}
}

//go:wasmexport proxy_on_configure
func onConfigure(id, size uint32) bool {
	p := plugins[id]
	if !conf.Read("request-log", size, &p.settings) {
		return false
	}
	var err error
	if p.queue, err = proxywasm.RegisterQueue(queueName); err != nil {
		proxywasm.Logf(proxywasm.Error, "request-log: no queue: %v", err)
		return false
	}
	proxywasm.SetTickPeriod(time.Duration(p.IntervalMs) * time.Millisecond)
	return true
}

//go:wasmexport proxy_on_log
func onLog(id uint32) {
	p := streams[id]
	line, err := json.Marshal(p.entry())
	if err == nil {
		err = proxywasm.Enqueue(p.queue, line)
	}
	if err != nil {
		p.lost++
	}
}

//go:wasmexport proxy_on_tick
func onTick(id uint32) {
	p := plugins[id]
	if p.lost > 0 {
		proxywasm.Logf(proxywasm.Warn, "request-log: %d lines were lost", p.lost)
		p.lost = 0
	}
	if p.asking {
		return
	}
	if len(p.unsent) == 0 {
		p.unsent = p.take()
	}
	if len(p.unsent) > 0 {
		p.send()
	}
}

//go:wasmexport proxy_on_http_call_response
func onHTTPCallResponse(id, _, _, _, _ uint32) {
	p := plugins[id]
	p.asking = false
	status, _ := proxywasm.Header(proxywasm.HTTPCallResponseHeaders, ":status")
	if len(status) == 3 && status[0] == '2' {
		p.unsent = nil
		return
	}
	if status == "" {
		status = "nothing"
	}
	proxywasm.Logf(proxywasm.Warn, "request-log: the collector answered %s; %d lines wait", status, len(p.unsent))
}

//go:wasmexport proxy_on_done
func onDone(id uint32) bool {
	if p := plugins[id]; p != nil && len(p.unsent) > 0 {
		proxywasm.Logf(proxywasm.Warn, "request-log: %d lines were not sent", len(p.unsent))
	}
	return true
}

//go:wasmexport proxy_on_delete
func onDelete(id uint32) {
	delete(streams, id)
	delete(plugins, id)
}

type entry struct {
	Time     string            `json:"time"`
	Client   string            `json:"client"`
	Route    string            `json:"route,omitempty"`
	Method   string            `json:"method"`
	Host     string            `json:"host"`
	Path     string            `json:"path"`
	Status   string            `json:"status"`
	Duration float64           `json:"duration_ms"`
	Headers  map[string]string `json:"headers,omitempty"`
}

// entry is what there is to say of the current stream.
func (p *plugin) entry() entry {
	request := func(name string) string { value, _ := proxywasm.Header(proxywasm.RequestHeaders, name); return value }
	property := func(path ...string) string { value, _ := proxywasm.Property(path...); return string(value) }
	status, _ := proxywasm.Header(proxywasm.ResponseHeaders, ":status")
	line := entry{
		Client: property("source", "address"), Route: property("route_name"), Status: status,
		Method: request(":method"), Host: request(":authority"), Path: request(":path"),
	}
	if began, err := proxywasm.Property("request", "time"); err == nil && len(began) == 8 {
		start := time.Unix(0, int64(binary.LittleEndian.Uint64(began)))
		line.Time = start.UTC().Format(time.RFC3339Nano)
		line.Duration = float64(proxywasm.Now().Sub(start).Microseconds()) / 1000
	}
	for _, name := range p.Headers {
		if value := request(name); value != "" {
			if line.Headers == nil {
				line.Headers = map[string]string{}
			}
			line.Headers[name] = value
		}
	}
	return line
}

func (p *plugin) take() (lines [][]byte) {
	for len(lines) < p.Batch {
		line, err := proxywasm.Dequeue(p.queue)
		if err != nil {
			break
		}
		lines = append(lines, line)
	}
	return lines
}

// send gives the batch to the collector; without one, to the gateway's own log.
func (p *plugin) send() {
	if p.Upstream == "" {
		for _, line := range p.unsent {
			proxywasm.Logf(proxywasm.Info, "%s", line)
		}
		p.unsent = nil
		return
	}
	headers := []proxywasm.Field{
		{Name: ":method", Value: "POST"}, {Name: ":path", Value: p.Path}, {Name: ":authority", Value: p.Upstream},
		{Name: "content-type", Value: "application/x-ndjson"},
	}
	body := append(bytes.Join(p.unsent, []byte("\n")), '\n')
	_, err := proxywasm.HTTPCall(p.Upstream, headers, body, time.Duration(p.TimeoutMs)*time.Millisecond)
	if err != nil {
		proxywasm.Logf(proxywasm.Warn, "request-log: the collector cannot be asked: %v; %d lines wait", err, len(p.unsent))
		return
	}
	p.asking = true
}

func main() {}
