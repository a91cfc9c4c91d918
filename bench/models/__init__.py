"""The server models side by side: what each way to serve many clients costs, how far it goes."""
