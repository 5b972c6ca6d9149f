module github.com/wordcab/wcbundle/bench

go 1.26.0

require (
	github.com/klauspost/compress v1.20.3
	github.com/klauspost/pgzip v1.2.6
)

require (
	github.com/containers/image/v5 v5.4.3 // indirect
	github.com/containers/tar-diff v0.1.2 // indirect
	github.com/dsnet/compress v0.0.0-20171208185109-cc9eb1d7ad76 // indirect
	github.com/gabstv/go-bsdiff v1.0.5 // indirect
	github.com/konsorten/go-windows-terminal-sequences v1.0.2 // indirect
	github.com/pkg/errors v0.9.1 // indirect
	github.com/sirupsen/logrus v1.4.2 // indirect
	github.com/ulikunitz/xz v0.5.7 // indirect
	golang.org/x/sys v0.0.0-20200327173247-9dae0f8f5775 // indirect
)

tool (
	github.com/containers/tar-diff/cmd/tar-diff
	github.com/containers/tar-diff/cmd/tar-patch
	github.com/gabstv/go-bsdiff/cmd/bsdiff
	github.com/gabstv/go-bsdiff/cmd/bspatch
)
