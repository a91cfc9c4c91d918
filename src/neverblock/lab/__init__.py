"""The lab: measures what each way to serve many clients costs, and says it in words."""
