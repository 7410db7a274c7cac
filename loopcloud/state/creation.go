package state

// creation describes how the data of a resource is created.
type creation struct {
	bytes func() error
	undo  func() error // removes the data if the resource cannot be recorded
	done  func()       // completes the record; may be nil
}

// produce creates a resource's data and records the resource: first as incomplete, so that a
// restart after a kill removes it, then as complete together with its client token. If the data
// cannot be created, the record is removed.
func produce[R interface {
	record
	working() *work
}](o *op, table map[string]R, r R, t clientToken, m creation) error {
	*r.working() = creating
	table[r.key()] = r
	err := o.save()
	if err == nil {
		err = o.bytes(m.bytes)
	}
	if err != nil {
		delete(table, r.key())
		_ = o.save() // the first error is more informative
		return err
	}
	*r.working() = noWork
	if m.done != nil {
		m.done()
	}
	o.remember(t, r.key())
	if err := o.save(); err != nil {
		delete(table, r.key())
		o.forget(t)
		_ = o.bytes(m.undo)
		return err
	}
	return nil
}
