"""What a user can see of the engine, on asyncio's own loop and on each backend of ours."""
