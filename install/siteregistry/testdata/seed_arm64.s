// Puts the files /parts/000, /parts/001, ... together into /seed/wcbundle and becomes that program, with its own arguments.
// Ends with the errno of what went wrong. Linux, arm64; as and ld are needed to change it only, see seed.go.
	.globl _start
	.text
_start:
	mov	x29, sp
	sub	sp, sp, #16
	ldr	x0, =0x302f73747261702f		// "/parts/0" "00"
	str	x0, [sp]
	mov	x0, #0x3030
	str	x0, [sp, #8]
	mov	x0, #-100			// openat(AT_FDCWD, out, O_WRONLY|O_CREAT|O_TRUNC, 0755)
	adr	x1, out
	mov	x2, #01101
	mov	x3, #0755
	mov	x8, #56
	svc	#0
	tbnz	x0, #63, fail
	mov	x19, x0
	mov	x20, #0				// number of the part
next:	mov	x0, x20
	mov	x1, #10
	mov	x2, #9
1:	udiv	x3, x0, x1
	msub	x4, x3, x1, x0
	add	x4, x4, #'0'
	strb	w4, [sp, x2]
	mov	x0, x3
	sub	x2, x2, #1
	cmp	x2, #6
	b.ne	1b
	mov	x0, #-100			// openat(AT_FDCWD, part, O_RDONLY)
	mov	x1, sp
	mov	x2, #0
	mov	x8, #56
	svc	#0
	cmn	x0, #2				// ENOENT: that was the last
	b.eq	done
	tbnz	x0, #63, fail
	mov	x21, x0
copy:	mov	x0, x19				// sendfile(out, in, 0, 1 GiB)
	mov	x1, x21
	mov	x2, #0
	mov	x3, #1<<30
	mov	x8, #71
	svc	#0
	tbnz	x0, #63, fail
	cbnz	x0, copy
	mov	x0, x21				// close(in)
	mov	x8, #57
	svc	#0
	add	x20, x20, #1
	b	next
done:	mov	x0, x19				// close(out)
	mov	x8, #57
	svc	#0
	tbnz	x0, #63, fail
	ldr	x3, [x29]			// argc
	adr	x0, out
	add	x1, x29, #8			// argv
	add	x2, x1, x3, lsl #3
	add	x2, x2, #8			// envp
	mov	x8, #221			// execve
	svc	#0
fail:	neg	x0, x0
	mov	x8, #93				// exit(errno)
	svc	#0
	.ltorg
out:	.asciz	"/seed/wcbundle"
	.balign	4
