# Does nothing and ends well. Linux, amd64; as and objcopy are needed to change it only, see nothing.go.
	.globl _start
	.text
_start:
	xor	%edi, %edi
	mov	$60, %eax			# exit(0)
	syscall
