package main

import (
	"regexp"
	"strconv"
)

// server is a program with the client that loads it, both in one container.
type server struct {
	name   string
	config string // what stands in serverConfig
	args   []string
	client []string
	result *regexp.Regexp // finds requests a second in what the client prints
	count  *regexp.Regexp // finds how many requests there were, if the client does not make redisRequests
}

const (
	serverConfig  = "etc/server.conf" // in the container
	redisRequests = 100000
	pageSize      = 612 // bytes of the page that nginx serves, as large as its own welcome page
)

var redis = server{
	name:   "redis-benchmark, GET, 50 connections",
	args:   []string{"redis-server", "--port", "6379", "--save", "", "--daemonize", "no", "--logfile", "/dev/null"},
	client: []string{"redis-benchmark", "-q", "-t", "get", "-c", "50", "-n", strconv.Itoa(redisRequests)},
	result: regexp.MustCompile(`GET: ([0-9.]+) requests per second`),
}

// nginx is measured with nothing but the network in a request, and as Debian configures it: each request then also opens its file, which Landlock is asked
// about, and sets two socket options, whose arguments the overlay filter looks at.
var (
	nginxCached = nginx("its file kept open", "open_file_cache max=16;")
	nginxDebian = nginx("its file opened each time, tcp_nopush", "tcp_nopush on;")
)

func nginx(name, directives string) server {
	return server{
		name: "nginx and wrk, 32 connections, " + name,
		config: `daemon off; user root; worker_processes 1; pid /tmp/nginx.pid; error_log /dev/null;
events { worker_connections 1024; }
http { access_log off; client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
sendfile on; ` + directives + ` keepalive_requests 100000000; server { listen 127.0.0.1:8080; root /var/www; } }
`,
		args:   []string{"nginx", "-c", "/" + serverConfig},
		client: []string{"wrk", "-t", "1", "-c", "32", "-d", "1s", "http://127.0.0.1:8080/"},
		result: regexp.MustCompile(`Requests/sec: +([0-9.]+)`),
		count:  regexp.MustCompile(`([0-9]+) requests in`),
	}
}
