"""The Meterfold SDK: record usage from an application."""
