"""An asyncio event loop with an engine of its own."""
