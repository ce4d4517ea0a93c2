module waspgate.example/plugins

go 1.24
