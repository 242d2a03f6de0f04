"""What `operate.py` does, by subject: the service, its log, its queues, what runs its code."""
