package registry

import (
	"context"
	"net/http"
	"strconv"
	"syscall"
)

// roomHeader is what the embedded registry says of its disk to whom it has let in, at /v2/: bytes that are free.
const roomHeader = "Wcbundle-Free-Bytes"

// roomy lets the embedded registry say how much room it has, so that a load that does not fit is told before it begins.
type roomy struct {
	next http.Handler
	dir  string
}

func (h roomy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v2/" {
		w = &roomyAnswer{ResponseWriter: w, dir: h.dir}
	}
	h.next.ServeHTTP(w, r)
}

type roomyAnswer struct {
	http.ResponseWriter
	dir  string
	told bool
}

func (a *roomyAnswer) WriteHeader(status int) {
	if free, err := freeBytes(a.dir); status == http.StatusOK && err == nil && !a.told {
		a.Header().Set(roomHeader, strconv.FormatInt(free, 10))
	}
	a.told = true
	a.ResponseWriter.WriteHeader(status)
}

func (a *roomyAnswer) Write(p []byte) (int, error) {
	if !a.told {
		a.WriteHeader(http.StatusOK)
	}
	return a.ResponseWriter.Write(p)
}

func freeBytes(dir string) (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Room asks the registry how many bytes its disk has free. Only the embedded one knows to answer; known is false for others.
func (r *Registry) Room(ctx context.Context) (free int64, known bool, err error) {
	scheme := "https"
	if r.plain {
		scheme = "http"
	}
	resp, err := r.request(ctx, http.MethodGet, scheme+"://"+r.host+"/v2/")
	if err != nil {
		return 0, false, err
	}
	if err := answered(resp, http.StatusOK); err != nil {
		return 0, false, err
	}
	free, err = strconv.ParseInt(resp.Header.Get(roomHeader), 10, 64)
	return free, err == nil && free >= 0, nil
}
