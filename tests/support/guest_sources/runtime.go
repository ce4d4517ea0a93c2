// What Go's runtime does inside of a callback: the request's path says what.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"waspgate.example/plugins/proxywasm"
)

var kept [][]byte

var acts = map[string]func(){
	"panic":     func() { panic("oh no") },
	"exit":      func() { os.Exit(3) },
	"deadlock":  func() { <-make(chan int) },
	"goroutine": func() { fmt.Println(<-start(func() string { return "from a goroutine" })) },
	"sleep":     func() { time.Sleep(2 * time.Millisecond) },
	"too long":  func() { time.Sleep(time.Minute) },
	"stdout":    func() { fmt.Println("to", "stdout") },
	"stderr":    func() { fmt.Fprintln(os.Stderr, "to stderr") },
	"arguments": func() { fmt.Println(len(os.Args), os.Getenv("COLOUR"), os.Getenv("PATH")) },
	"file":      func() { _, err := os.ReadFile("/etc/passwd"); fmt.Println(err) },
	"create":    func() { fmt.Println(os.Mkdir("/tmp/made", 0o700)) },
	"clock":     func() { fmt.Println(time.Since(time.Unix(0, 0)) > 0, time.Now().Location()) },
	"garbage":   func() { makeGarbage(); runtime.GC() },
	"grow":      func() { kept = append(kept, make([]byte, 4<<20)); fmt.Println(len(kept)) },
	"again":     func() { kept = nil },
}

func start(work func() string) chan string {
	done := make(chan string)
	go func() { done <- work() }()
	return done
}

func makeGarbage() {
	for i := range 200 {
		_ = make([]byte, 1000*i)
	}
}

//go:wasmexport proxy_on_request_headers
func onRequestHeaders(_, _ uint32, _ bool) proxywasm.Action {
	path, _ := proxywasm.Header(proxywasm.RequestHeaders, ":path")
	acts[strings.ReplaceAll(path[1:], "+", " ")]()
	return proxywasm.Continue
}

func main() {}
