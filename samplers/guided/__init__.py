"""Samplers that read several channels of a guided model: guidance is part of their step."""
