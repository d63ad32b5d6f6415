package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"

	"qlbaas/tests/lab"
)

// visitor is a browser: it keeps cookies and connections. All of them are on one host, so
// that addresses tell nothing about them.
type visitor struct {
	client *http.Client
	jar    *cookiejar.Jar
	at     string // the member that answered last
}

// visitors opens browsers.
func (d *demo) visitors(n int) ([]*visitor, error) {
	var all []*visitor
	for range n {
		jar, err := cookiejar.New(nil)
		if err != nil {
			return nil, fmt.Errorf("make a cookie jar: %w", err)
		}
		client := d.client().HTTPClient(lab.HTTPOptions{KeepAlive: true})
		client.Jar = jar
		all = append(all, &visitor{client: client, jar: jar})
	}
	return all, nil
}

// visit asks for a path and returns the answer's header.
func (v *visitor) visit(ctx context.Context, path string) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, vipURL+strings.TrimPrefix(path, "/"), nil)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	response, err := v.client.Do(request)
	if err != nil {
		return nil, err // names method and URL
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered %s", response.Status)
	}
	v.at = strings.TrimSpace(string(body))
	return response.Header, nil
}

// cookie is a cookie that the visitor has; empty without.
func (v *visitor) cookie(name string) string {
	at, err := url.Parse(vipURL)
	if err != nil {
		return ""
	}
	for _, c := range v.jar.Cookies(at) {
		if c.Name == name {
			return c.Value
		}
	}
	return ""
}

// mustStay lets every visitor ask again and fails when one meets another member.
func mustStay(ctx context.Context, all []*visitor, times int) error {
	for i, v := range all {
		want := v.at
		for range times {
			if _, err := v.visit(ctx, "/"); err != nil {
				return fmt.Errorf("visitor %d: %w", i+1, err)
			}
			if v.at != want {
				return fmt.Errorf("visitor %d is answered by %s, want %s", i+1, v.at, want)
			}
		}
	}
	return nil
}

// atMember returns the visitors that a member has.
func atMember(all []*visitor, member string) (some []*visitor) {
	for _, v := range all {
		if v.at == member {
			some = append(some, v)
		}
	}
	return some
}

// places are the members in the order in which the visitors met them.
func places(all []*visitor) (who []string) {
	for _, v := range all {
		who = append(who, v.at)
	}
	return who
}
