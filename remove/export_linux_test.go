package remove

var Entry = entry
