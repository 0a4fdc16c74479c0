"""The protocol: what speaks AMQP 0-9-1 to a server, and knows nothing of tasks."""
