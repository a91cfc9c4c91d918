"""Real packages on our loop, over loopback: what their users would try first."""
