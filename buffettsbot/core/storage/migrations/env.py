"""Run by Alembic: apply the migrations on the connection, inside the transaction, it was given."""

from alembic import context

from buffettsbot.core.storage import models

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=models.METADATA,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
