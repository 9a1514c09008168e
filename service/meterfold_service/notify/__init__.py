"""Notifications: events of thresholds to mailboxes, webhooks and the operators' chats."""
