package main

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"waspgate.example/plugins/conf"
)

type settings struct {
	Request  rules `json:"request"`
	Response rules `json:"response"`
}

// rules are what happens to a message, in this order: headers are removed, set and added, then its body is searched.
type rules struct {
	Remove       []string          `json:"remove"`
	Set          map[string]string `json:"set"`
	Add          map[string]string `json:"add"`
	Replace      []replacement     `json:"replace"`
	ContentTypes []string          `json:"content_types"`
}

type replacement struct {
	Find string `json:"find"`
	With string `json:"with"`
}

// Framing is the gateway's.
var untouchable = map[string]bool{"content-length": true, "transfer-encoding": true, "connection": true}

func (s *settings) Check() error {
	return cmp.Or(s.Request.check(), s.Response.check())
}

func (r *rules) check() error {
	for _, name := range r.Remove {
		if err := checkName(name); err != nil {
			return err
		}
	}
	for _, fields := range []map[string]string{r.Set, r.Add} {
		for name, value := range fields {
			if err := checkName(name); err != nil {
				return err
			}
			if value != "" && conf.Line(name, value) != nil {
				return conf.Line(name, value)
			}
		}
	}
	for _, replacement := range r.Replace {
		if replacement.Find == "" {
			return errors.New("a text is expected for find")
		}
	}
	return nil
}

func checkName(name string) error {
	if untouchable[strings.ToLower(name)] {
		return fmt.Errorf("%s is the gateway's", name)
	}
	return conf.Name(name)
}
