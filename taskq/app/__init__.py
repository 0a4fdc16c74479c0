"""What a program that uses taskq touches: the application, its tasks, their results."""
