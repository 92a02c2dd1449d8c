"""What well-known packages and images stand for.

Tables alone: a name that is not here is no fact, however famous.
"""

from typing import Final

PYTHON_FRAMEWORKS: Final = frozenset(
    {
        "fastapi",
        "flask",
        "django",
        "starlette",
        "aiohttp",
        "tornado",
        "litestar",
        "sanic",
        "celery",
        "airflow",
        "prefect",
    }
    | {
        "dagster",
        "scikit-learn",
        "torch",
        "tensorflow",
        "keras",
        "xgboost",
        "lightgbm",
        "catboost",
        "jax",
        "transformers",
    }
    | {
        "pyspark",
        "ray",
        "dask",
        "pandas",
        "polars",
        "mlflow",
        "kfp",
        "feast",
        "bentoml",
        "evidently",
        "streamlit",
        "gradio",
    }
    | {"dbt-core", "grpcio", "confluent-kafka", "kafka-python", "nats-py", "prometheus-client", "opentelemetry-sdk"}
    | {"langchain", "apache-airflow", "statsmodels", "prophet", "onnxruntime", "triton", "kserve", "dvc"}
)
NODE_FRAMEWORKS: Final = frozenset(
    {
        "express",
        "fastify",
        "koa",
        "@nestjs/core",
        "@hapi/hapi",
        "next",
        "nuxt",
        "react",
        "vue",
        "svelte",
        "@angular/core",
    }
    | {
        "astro",
        "remix",
        "socket.io",
        "graphql",
        "@apollo/server",
        "kafkajs",
        "nats",
        "onnxruntime-node",
        "@tensorflow/tfjs",
    }
    | {"electron", "vite", "hono"}
)
DATABASE_DRIVERS: Final = {
    "psycopg": "postgresql", "psycopg2": "postgresql", "psycopg2-binary": "postgresql", "asyncpg": "postgresql",
    "pg": "postgresql", "postgres": "postgresql", "pymysql": "mysql", "mysqlclient": "mysql", "aiomysql": "mysql",
    "mysql-connector-python": "mysql", "mysql": "mysql", "mysql2": "mysql", "pymongo": "mongodb", "motor": "mongodb",
    "mongodb": "mongodb", "mongoose": "mongodb", "redis": "redis", "ioredis": "redis", "cassandra-driver": "cassandra",
    "clickhouse-connect": "clickhouse", "clickhouse-driver": "clickhouse", "snowflake-connector-python": "snowflake",
    "snowflake-sdk": "snowflake", "google-cloud-bigquery": "bigquery", "@google-cloud/bigquery": "bigquery",
    "elasticsearch": "elasticsearch", "@elastic/elasticsearch": "elasticsearch", "opensearch-py": "opensearch",
    "duckdb": "duckdb", "neo4j": "neo4j", "sqlite3": "sqlite", "better-sqlite3": "sqlite", "aiosqlite": "sqlite",
    "mssql": "sql server", "pyodbc": "odbc", "oracledb": "oracle", "cx-oracle": "oracle", "influxdb-client": "influxdb",
}  # fmt: skip
DATABASE_IMAGES: Final = {
    "postgres": "postgresql", "postgresql": "postgresql", "postgis": "postgresql", "timescaledb": "postgresql",
    "pgvector": "postgresql", "mysql": "mysql", "mariadb": "mariadb", "mongo": "mongodb", "mongodb": "mongodb",
    "redis": "redis", "valkey": "valkey", "cassandra": "cassandra", "clickhouse-server": "clickhouse",
    "clickhouse": "clickhouse", "elasticsearch": "elasticsearch", "opensearch": "opensearch", "neo4j": "neo4j",
    "influxdb": "influxdb", "cockroach": "cockroachdb", "memcached": "memcached",
}  # fmt: skip
DATABASE_SETTINGS: Final = {
    "POSTGRES": "postgresql", "PG": "postgresql", "PGHOST": "postgresql", "PGDATABASE": "postgresql", "MYSQL": "mysql",
    "MARIADB": "mariadb", "MONGO": "mongodb", "MONGODB": "mongodb", "REDIS": "redis", "CLICKHOUSE": "clickhouse",
    "SNOWFLAKE": "snowflake", "BIGQUERY": "bigquery", "ELASTICSEARCH": "elasticsearch", "CASSANDRA": "cassandra",
}  # fmt: skip
"""By the first word of a setting's name."""
LANGUAGE_IMAGES: Final = {
    "python": "python", "node": "node", "golang": "go", "rust": "rust", "openjdk": "java", "eclipse-temurin": "java",
    "ruby": "ruby", "php": "php",
}  # fmt: skip
