// Package machinecode makes static Linux programs of machine code that needs nothing: no library, no data, no file of its image. They are
// small enough for a ConfigMap and run in a container of any image.
package machinecode

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// Program is the ELF file of code for a GOARCH, amd64 or arm64. Execution begins at its first byte.
func Program(arch string, code []byte) ([]byte, error) {
	machines := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}
	machine, ok := machines[arch]
	if !ok {
		return nil, fmt.Errorf("there is no machine code for architecture %.20q", arch)
	}
	const base = 0x400000
	head := uint64(binary.Size(elf.Header64{}) + binary.Size(elf.Prog64{}))
	size := head + uint64(len(code))
	h := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Entry: base + head,
		Phoff: uint64(binary.Size(elf.Header64{})), Ehsize: uint16(binary.Size(elf.Header64{})), Phentsize: uint16(binary.Size(elf.Prog64{})), Phnum: 1}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	p := elf.Prog64{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: base, Paddr: base, Filesz: size, Memsz: size, Align: 0x10000}
	var out bytes.Buffer
	for _, part := range []any{h, p, code} {
		if err := binary.Write(&out, binary.LittleEndian, part); err != nil {
			return nil, err
		}
	}
	return out.Bytes(), nil
}
