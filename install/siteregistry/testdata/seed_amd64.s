# Puts the files /parts/000, /parts/001, ... together into /seed/wcbundle and becomes that program, with its own arguments.
# Ends with the errno of what went wrong. Linux, amd64; as and ld are needed to change it only, see seed.go.
	.globl _start
	.text
_start:
	mov	%rsp, %rbp
	sub	$16, %rsp
	movabs	$0x302f73747261702f, %rax	# "/parts/0" "00"
	mov	%rax, (%rsp)
	movq	$0x3030, 8(%rsp)
	mov	$2, %eax			# open(out, O_WRONLY|O_CREAT|O_TRUNC, 0755)
	lea	out(%rip), %rdi
	mov	$01101, %esi
	mov	$0755, %edx
	syscall
	test	%rax, %rax
	js	fail
	mov	%eax, %r12d
	xor	%r14d, %r14d			# number of the part
next:	mov	%r14d, %eax
	mov	$10, %ecx
	mov	$9, %ebx
1:	xor	%edx, %edx
	div	%ecx
	add	$'0', %dl
	mov	%dl, (%rsp,%rbx)
	dec	%ebx
	cmp	$6, %ebx
	jne	1b
	mov	$2, %eax			# open(part, O_RDONLY)
	mov	%rsp, %rdi
	xor	%esi, %esi
	syscall
	cmp	$-2, %rax			# ENOENT: that was the last
	je	done
	test	%rax, %rax
	js	fail
	mov	%eax, %r13d
copy:	mov	$40, %eax			# sendfile(out, in, 0, 1 GiB)
	mov	%r12d, %edi
	mov	%r13d, %esi
	xor	%edx, %edx
	mov	$1<<30, %r10d
	syscall
	test	%rax, %rax
	js	fail
	jnz	copy
	mov	$3, %eax			# close(in)
	mov	%r13d, %edi
	syscall
	inc	%r14d
	jmp	next
done:	mov	$3, %eax			# close(out)
	mov	%r12d, %edi
	syscall
	test	%rax, %rax
	js	fail
	mov	(%rbp), %rdx			# argc
	lea	8(%rbp), %rsi			# argv
	lea	16(%rbp,%rdx,8), %rdx		# envp
	lea	out(%rip), %rdi
	mov	$59, %eax			# execve
	syscall
fail:	neg	%eax
	mov	%eax, %edi
	mov	$60, %eax			# exit(errno)
	syscall
out:	.asciz	"/seed/wcbundle"
