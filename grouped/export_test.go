package grouped

// Waiting says how many calls wait for the next group.
func (c *Calls[Q, A]) Waiting() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.waiting)
}
