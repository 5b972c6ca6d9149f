package tensor

// CoderMemory bounds what a Coder keeps, in bytes: its own tables, those of the entropy coders, and one coded block.
const CoderMemory = 12 << 20
