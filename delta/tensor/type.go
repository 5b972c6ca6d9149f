package tensor

// Type names how the bytes of a tensor are laid out. The numbers go into deltas and never change; new types get new numbers.
type Type uint8

// The numeric types. Signed and unsigned integers of one width share a number: differences are modulo the width.
const (
	Bytes  Type = 0 // no known structure
	BF16   Type = 1
	F16    Type = 2
	F32    Type = 3
	F64    Type = 4
	F8E4M3 Type = 5
	F8E5M2 Type = 6
	I8     Type = 7
	I16    Type = 8
	I32    Type = 9
	I64    Type = 10
)

// The block types of GGML: scales and packed quants, see the table fields in quant.go.
const (
	Q4_0 Type = 32
	Q4_1 Type = 33
	Q5_0 Type = 34
	Q5_1 Type = 35
	Q8_0 Type = 36
	Q8_1 Type = 37
	Q2_K Type = 38
	Q3_K Type = 39
	Q4_K Type = 40
	Q5_K Type = 41
	Q6_K Type = 42
)

// Element returns the bytes of the smallest unit of t: one number, or one block of quants with its scales. It is 0 for a
// number that is no type.
func (t Type) Element() int {
	switch t {
	case Bytes, F8E4M3, F8E5M2, I8:
		return 1
	case BF16, F16, I16:
		return 2
	case F32, I32:
		return 4
	case F64, I64:
		return 8
	}
	n := 0
	for _, f := range fieldsOf(t) {
		n += f.bytes
	}
	return n
}

var typeNames = map[Type]string{
	Bytes: "bytes", BF16: "bf16", F16: "fp16", F32: "fp32", F64: "fp64", F8E4M3: "fp8-e4m3", F8E5M2: "fp8-e5m2",
	I8: "int8", I16: "int16", I32: "int32", I64: "int64",
	Q4_0: "q4_0", Q4_1: "q4_1", Q5_0: "q5_0", Q5_1: "q5_1", Q8_0: "q8_0", Q8_1: "q8_1",
	Q2_K: "q2_k", Q3_K: "q3_k", Q4_K: "q4_k", Q5_K: "q5_k", Q6_K: "q6_k",
}

// String returns a short name for people.
func (t Type) String() string {
	if s, ok := typeNames[t]; ok {
		return s
	}
	return "unknown"
}

// elementsIn returns how many numbers or quants one element holds.
func elementsIn(t Type) uint64 {
	switch {
	case t >= Q4_0 && t <= Q8_1:
		return 32
	case t >= Q2_K && t <= Q6_K:
		return 256
	}
	return 1
}
