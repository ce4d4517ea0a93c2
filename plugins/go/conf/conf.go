// Package conf reads a plugin's configuration: one JSON object whose keys are all known.
package conf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"waspgate.example/plugins/proxywasm"
)

// Checked is a configuration that says what is wrong with itself.
type Checked interface{ Check() error }

// Read fills the settings, which hold the defaults, from the current plugin context's configuration. What is wrong is logged.
func Read(plugin string, size uint32, settings Checked) bool {
	document, err := proxywasm.Bytes(proxywasm.PluginConfiguration, 0, size)
	if err == nil {
		err = parse(document, settings)
	}
	if err != nil {
		proxywasm.Logf(proxywasm.Error, "%s: bad configuration: %v", plugin, err)
	}
	return err == nil
}

func parse(document []byte, settings Checked) error {
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(settings); err != nil {
		return err
	}
	if _, err := decoder.Token(); err != io.EOF {
		return errors.New("text after the object")
	}
	return settings.Check()
}

// Name fails for a text that is no field name as RFC 9110 section 5.1 wants it.
func Name(text string) error {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !isTokenRune(r) }) {
		return fmt.Errorf("not a header name: %s", text)
	}
	return nil
}

func isTokenRune(r rune) bool {
	return r >= '0' && r <= '9' || r|32 >= 'a' && r|32 <= 'z' || r < 128 && strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// Line fails for a text that is empty or has control characters.
func Line(key, text string) error {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 127 }) {
		return fmt.Errorf("one line of text is expected for %s", key)
	}
	return nil
}

// Path fails for a text that is neither empty nor a path.
func Path(key, text string) error {
	if text != "" && text[0] != '/' {
		return fmt.Errorf("a path that begins with / is expected for %s", key)
	}
	return nil
}
