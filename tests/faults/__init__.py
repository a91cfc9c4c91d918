"""What must survive: resets, exhaustion, fork, shutdown, churn."""
