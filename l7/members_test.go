package l7_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// recorder is a member that keeps what it gets, byte by byte, and answers each request
// with the same bytes. It knows where a request ends by its own, strict, reading: what
// it cannot read it does not answer.
type recorder struct {
	mu       sync.Mutex
	requests []string
	broken   []string // what could not be read to the end
	answer   func(request string) string
}

// record starts a recorder as member i.
func (w *world) record(i int, answer func(request string) string) *recorder {
	w.t.Helper()
	r := &recorder{answer: answer}
	l, err := w.members.Listen("tcp", fmt.Sprintf("%s:80", memberAddress(i)))
	w.must(err)
	var running sync.WaitGroup
	w.t.Cleanup(func() { l.Close(); running.Wait() })
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.t.Cleanup(func() { conn.Close() })
			running.Go(func() { r.serve(conn) })
		}
	})
	return r
}

func (r *recorder) serve(conn net.Conn) {
	defer conn.Close()
	for in := bufio.NewReader(conn); ; {
		text, err := readRequest(in)
		r.mu.Lock()
		if err == nil {
			r.requests = append(r.requests, text)
		} else if text != "" {
			r.broken = append(r.broken, text+" ["+err.Error()+"]")
		}
		r.mu.Unlock()
		if err != nil {
			return
		}
		answer := r.answer(text)
		if _, err := conn.Write([]byte(answer)); err != nil || answer == "" || strings.Contains(answer, "Connection: close") {
			return
		}
	}
}

// take returns what has come, and forgets it.
func (r *recorder) take() (requests, broken []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	requests, broken = r.requests, r.broken
	r.requests, r.broken = nil, nil
	return requests, broken
}

// readRequest reads head and body of a request that leaves no doubt.
func readRequest(in *bufio.Reader) (string, error) {
	var text strings.Builder
	length, chunked := 0, false
	for {
		line, err := in.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			return text.String(), err
		}
		if !strings.HasSuffix(line, "\r\n") || strings.Contains(line[:len(line)-2], "\r") {
			return text.String(), fmt.Errorf("bare line end")
		}
		if line == "\r\n" {
			break
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		switch strings.ToLower(name) {
		case "content-length":
			if _, err := fmt.Sscanf(value, "%d", &length); err != nil {
				return text.String(), err
			}
		case "transfer-encoding":
			chunked = true
		}
	}
	if chunked {
		return readChunks(in, &text)
	}
	body := make([]byte, length)
	for at := 0; at < length; {
		n, err := in.Read(body[at:])
		text.Write(body[at : at+n])
		if at += n; err != nil {
			return text.String(), err
		}
	}
	return text.String(), nil
}

// readChunks reads chunks to the end of the trailers.
func readChunks(in *bufio.Reader, text *strings.Builder) (string, error) {
	for last := false; ; {
		line, err := in.ReadString('\n')
		text.WriteString(line)
		if err != nil {
			return text.String(), err
		}
		if last {
			if line == "\r\n" {
				return text.String(), nil
			}
			continue
		}
		var size int
		if _, err := fmt.Sscanf(line, "%x\r\n", &size); err != nil {
			return text.String(), err
		}
		if last = size == 0; last {
			continue
		}
		data := make([]byte, size+2)
		for at := 0; at < len(data); {
			n, err := in.Read(data[at:])
			text.Write(data[at : at+n])
			if at += n; err != nil {
				return text.String(), err
			}
		}
		if !bytes.HasSuffix(data, []byte("\r\n")) {
			return text.String(), fmt.Errorf("no end of chunk")
		}
	}
}

// ok answers 200 with a short body.
func ok(body string) func(string) string {
	return func(request string) string {
		if strings.HasPrefix(request, "HEAD ") {
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
		}
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
}

// nginx starts one nginx for the members [0, n) at port 80. Each answers /who with its
// number, /echo with what it got, / with files, and writes a line per request.
func (w *world) nginx(n int) (accessLog string) {
	w.t.Helper()
	dir := w.t.TempDir()
	w.must(os.Chmod(dir, 0o755))
	var servers strings.Builder
	for i := range n {
		fmt.Fprintf(&servers, `
	server {
		listen %s:80;
		root %s/www;
		client_max_body_size 0;
		location /who { return 200 "m%d\n"; }
		location /session { add_header Set-Cookie "SID=s-$request_id; Path=/"; return 200 "m%d\n"; }
		location /echo { return 200 "$request_method $http_host [$http_cookie] [$http_x_forwarded_for] $remote_addr $content_length\n"; }
		location /upload { proxy_pass http://unix:%s/sink.sock; proxy_request_buffering off; proxy_http_version 1.1; }
		location /close { keepalive_timeout 0; return 200 "closed\n"; }
	}`, memberAddress(i), dir, i, i, dir)
	}
	configuration := fmt.Sprintf(`
worker_processes 1; daemon off; pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 4096; }
http {
	log_format short '$server_addr $request_method $request_uri $status $request_length';
	access_log %[1]s/access.log short;
	keepalive_requests 100000;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	%[2]s
}`, dir, servers.String())
	w.must(os.MkdirAll(filepath.Join(dir, "www"), 0o755))
	w.must(os.WriteFile(filepath.Join(dir, "www", "small"), bytes.Repeat([]byte("x"), 128), 0o644))
	w.must(os.WriteFile(filepath.Join(dir, "conf"), []byte(configuration), 0o644))
	cmd := exec.Command("nginx", "-c", filepath.Join(dir, "conf"))
	cmd.Stderr = w.log
	p, err := w.members.Start(cmd)
	w.must(err)
	w.t.Cleanup(func() { // its worker must be gone as well when the network goes
		_ = p.Signal(unix.SIGTERM) // it may have ended
		_ = p.Wait(w.context())
	})
	w.await("nginx", func() error {
		conn, err := w.members.Dial(w.context(), "tcp", fmt.Sprintf("%s:80", memberAddress(0)))
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return filepath.Join(dir, "access.log")
}
