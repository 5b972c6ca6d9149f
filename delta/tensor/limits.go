package tensor

// CoderMemory bounds what a Coder keeps, in bytes.
const CoderMemory = 8 << 20
