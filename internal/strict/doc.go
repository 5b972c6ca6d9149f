// Package strict reads JSON and YAML into typed Go structs and refuses everything that two readers could understand
// differently. Field names come from json tags in both forms.
//
// Both forms refuse:
//   - a field that the struct does not have, and one that matches only when case is ignored;
//   - the same key twice in one mapping, also when the two differ only in case;
//   - a value of another kind than the field's; null where the field is neither pointer, slice, map nor interface;
//   - a number that is not a plain decimal integer, or out of range, where an integer is wanted;
//   - more than 64 levels of nesting, and bytes that are not UTF-8.
//
// JSON also refuses data after the first value and escapes of half a surrogate pair. It reports the first fault.
//
// YAML also refuses a second document, merge keys, tags of the writer's own, and more than 4 MiB or 100000 nodes once
// aliases are followed. It is taken literally: an unquoted 2.10 in a string field is "2.10", but an unquoted true is a
// fault, and so is 0x1F in an integer field. It reports up to 20 faults, joined, each an *Error with file, line and column.
//
// A field whose type implements json.Unmarshaler takes any value; one that implements encoding.TextUnmarshaler takes a
// string. When either function fails, what v points to is as it was.
//
// The memory taken is a small multiple of the input; the caller bounds JSON input.
package strict
