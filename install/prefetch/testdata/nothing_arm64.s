// Does nothing and ends well. Linux, arm64; as and objcopy are needed to change it only, see nothing.go.
	.globl _start
	.text
_start:
	mov	x0, #0
	mov	x8, #93				// exit(0)
	svc	#0
