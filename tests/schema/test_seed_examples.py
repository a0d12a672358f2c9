"""The formats as their first documents show them: every example parses as it stands there."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from nlp_skills.schema import yaml
from nlp_skills.schema.data_source import Database, DataSource, LlmGenerated, WebScrape
from nlp_skills.schema.document import Document
from nlp_skills.schema.summary import TaskSummary
from nlp_skills.schema.task import Task, Versioning
from nlp_skills.schema.version import Lineage

TASK_OF_THE_COACH = """\
# task.yaml（教練產生，使用者確認）
task_name: entity-sentiment
version: v1

# 任務定義
task_type: classification
domain: finance
language: zh-TW

# 輸入輸出
input_template: |
  分析以下文本對「{entity}」的情感傾向。
  文本：{text}

output_format:
  type: json
  schema:
    sentiment:
      type: string
      enum: ["正面", "負面", "中立"]

# 訓練配置
training:
  base_model: Qwen/Qwen3-4B
  method: sft
  lora:
    r: 32
    alpha: 64
  epochs: 8
  learning_rate: 1e-5

# 成功標準
success_criteria:
  primary_metric: macro_f1
  threshold: 0.80

# 執行環境
execution:
  type: remote_ssh
  host: user@gpu-server

# 版本管理
versioning:
  strategy: semantic         # semantic | date | hybrid
  naming: "{task}-v{n}"      # entity-sentiment-v1
  retention: 3               # 保留最近 3 個版本
  deploy_target: huggingface # huggingface | ollama | api | local
"""

TASK_OF_THE_MANAGER = """\
# 任務基本資訊
task_name: entity-sentiment
version: v2  # 當前活動版本
status: evaluating

# 任務定義
task_type: classification
domain: finance
language: zh-TW

# 輸入輸出
input_template: |
  分析以下文本對「{entity}」的情感傾向。
  文本：{text}

output_format:
  type: json
  schema:
    sentiment:
      type: string
      enum: ["正面", "負面", "中立"]

# 成功標準
success_criteria:
  primary_metric: macro_f1
  threshold: 0.80

# 執行環境
execution:
  type: remote_ssh
  host: user@gpu-server
  cuda_devices: "0"

# 元資料
created: 2026-01-05T10:00:00
updated: 2026-01-06T14:30:00
"""

RETENTION = """\
strategy: semantic
retention:
  keep_recent: 3          # 保留最近 3 個版本
  keep_deployed: true     # 永久保留已部署版本
  keep_best: true         # 保留效能最佳版本
  cleanup_exp_after: 7d   # 實驗版本 7 天後清理
"""

DATA_SOURCES = """\
# data_source.yaml
sources:
  - type: database
    connection: postgresql://user:pass@host/db
    query: "SELECT text, label FROM annotations"
    snapshot_date: 2026-01-06

  - type: api
    endpoint: https://api.example.com/data
    params:
      limit: 1000

  - type: web_scrape
    urls: ["https://..."]
    keywords: ["金融", "股票"]

  - type: llm_generated
    prompt_template: |
      生成 {count} 筆金融情感分析訓練資料...
    model: gpt-4o
    count: 500

regeneration:
  script: scripts/01_regenerate_data.py
  last_run: 2026-01-06T10:30:00
"""

LONG_FORM = """\
sources:
  - name: annotations
    type: database
    config:
      connection: postgresql://user:pass@host/db
      query: "SELECT text, label FROM annotations"
"""

SHORT_LINEAGE = """\
# versions/v2/lineage.yaml
version: v2
created: 2026-01-06T14:00:00
parent: v1
data:
  source_hash: abc123
  train_count: 500
  valid_count: 100
  test_count: 100
config:
  base_model: Qwen/Qwen3-4B
  method: sft
  lora_r: 64
  epochs: 6
results:
  macro_f1: 0.815
  accuracy: 0.82
changes:
  - "增加 LoRA rank 32 → 64"
  - "新增中立樣本 200 筆"
"""

LONG_LINEAGE = """\
version: v2
created: 2026-01-06T14:00:00
parent: v1  # 前一版本

# 資料資訊
data:
  source_hash: abc123def456  # data_source.yaml 的 hash
  train_count: 700
  valid_count: 140
  test_count: 160
  class_distribution:
    正面: 280
    負面: 245
    中立: 175

# 訓練配置
config:
  base_model: Qwen/Qwen3-4B
  method: sft
  lora:
    r: 64
    alpha: 128
    dropout: 0.05
  epochs: 6
  learning_rate: 1e-5
  batch_size: 4

# 評估結果
results:
  macro_f1: 0.815
  accuracy: 0.82
  per_class:
    正面:
      precision: 0.85
      recall: 0.87
      f1: 0.86
    負面:
      precision: 0.82
      recall: 0.80
      f1: 0.81
    中立:
      precision: 0.78
      recall: 0.79
      f1: 0.785

# 模型資訊
model:
  adapter_path: models/adapter/v2
  merged_path: models/merged/v2
  gguf_path: models/gguf/v2-q8_0.gguf
  hf_repo: org/entity-sentiment-v2

# 變更說明
changes:
  - "LoRA rank 32 → 64"
  - "新增中立樣本 200 筆"
  - "訓練輪數 8 → 6（防止過擬合）"

# 備註
notes: |
  v2 主要針對中立類別的 F1 進行改善。
  透過增加中立樣本和調高 LoRA rank，
  中立 F1 從 62% 提升到 78.5%。
"""

SUMMARY = """\
# 任務摘要（由教練產生）
task_summary:
  name: entity-sentiment
  type: classification
  domain: finance

  goal: |
    分析金融新聞中特定實體的情感傾向，
    支援投資決策系統的輿情監控功能。

  constraints:
    - 資料量: 500 筆已標註
    - GPU: 遠端 A100 x1
    - 時程: 2 週內上線

  success_criteria:
    primary_metric: macro_f1
    threshold: 0.80
    baseline: rule_based_0.65

  versioning:
    strategy: semantic       # semantic | date | hybrid
    deploy_target: huggingface
    retention: 3            # 保留版本數
"""


def parsed(document: type[Document], text: str, tmp_path: Path) -> Any:
    path = tmp_path / "document.yaml"
    path.write_text(text, encoding="utf-8")
    return document.load(path)


def test_the_coachs_task(tmp_path: Path) -> None:
    task = parsed(Task, TASK_OF_THE_COACH, tmp_path)
    assert task.input_fields == ["entity", "text"]
    assert (task.label_field, task.labels) == ("sentiment", ["正面", "負面", "中立"])
    assert isinstance(task.training.learning_rate, float)
    assert task.training.learning_rate == 1e-5
    assert (task.training.lora.r, task.training.lora.alpha, task.training.epochs) == (32, 64, 8)
    assert task.status == "created"
    assert task.execution.host == "user@gpu-server"
    assert task.versioning.retention.keep_recent == 3
    assert task.versioning.deploy_target == "huggingface"


def test_the_managers_task(tmp_path: Path) -> None:
    task = parsed(Task, TASK_OF_THE_MANAGER, tmp_path)
    assert (task.version, task.status) == ("v2", "evaluating")
    assert task.execution.cuda_devices == "0"
    assert task.created == dt.datetime(2026, 1, 5, 10)
    assert task.training is None


def test_retention_is_read_in_both_spellings() -> None:
    def retention(text: str) -> dict[str, Any]:
        return Versioning.model_validate(yaml.loads(text, Path("t")).data).retention.model_dump()

    long = {"keep_recent": 3, "keep_deployed": True, "keep_best": True, "cleanup_exp_after": "7d"}
    assert retention(RETENTION) == long
    assert retention("retention: 3\n") == long
    assert retention("retention: 5\n") == {**long, "keep_recent": 5}


def test_labels_that_yaml_once_took_for_booleans_are_text(tmp_path: Path) -> None:
    text = TASK_OF_THE_COACH.replace('["正面", "負面", "中立"]', "[yes, no, on, off, y]")
    assert parsed(Task, text, tmp_path).labels == ["yes", "no", "on", "off", "y"]


def test_all_four_types_of_source(tmp_path: Path) -> None:
    document = parsed(DataSource, DATA_SOURCES, tmp_path)
    database, api, scrape, generated = document.sources
    assert isinstance(database, Database)
    assert database.query == "SELECT text, label FROM annotations"
    assert database.snapshot_date == dt.date(2026, 1, 6)
    assert api.params == {"limit": 1000}
    assert isinstance(scrape, WebScrape)
    assert scrape.keywords == ["金融", "股票"]
    assert isinstance(generated, LlmGenerated)
    assert (generated.model, generated.count) == ("gpt-4o", 500)
    assert [source.name for source in document.sources] == ["database", "api", "web_scrape", "llm_generated"]
    assert document.regeneration.last_run == dt.datetime(2026, 1, 6, 10, 30)


def test_a_sources_long_form_is_the_short_one(tmp_path: Path) -> None:
    long = parsed(DataSource, LONG_FORM, tmp_path).sources[0]
    short = parsed(DataSource, DATA_SOURCES, tmp_path).sources[0]
    assert long.name == "annotations"
    assert (long.connection, long.query) == (short.connection, short.query)
    assert "config" not in long.model_dump()


def test_the_short_lineage(tmp_path: Path) -> None:
    lineage = parsed(Lineage, SHORT_LINEAGE, tmp_path)
    assert lineage.config.lora.r == 64
    assert "lora_r" not in lineage.dump()["config"]
    assert lineage.dump()["config"]["epochs"] == 6
    assert lineage.results.model_extra == {"macro_f1": 0.815, "accuracy": 0.82}
    assert lineage.changes == ["增加 LoRA rank 32 → 64", "新增中立樣本 200 筆"]


def test_the_long_lineage(tmp_path: Path) -> None:
    lineage = parsed(Lineage, LONG_LINEAGE, tmp_path)
    assert (lineage.version, lineage.parent) == ("v2", "v1")
    assert lineage.data.class_distribution == {"正面": 280, "負面": 245, "中立": 175}
    assert sum(lineage.data.class_distribution.values()) == lineage.data.train_count
    assert lineage.dump()["config"]["learning_rate"] == 1e-5
    assert (lineage.config.lora.alpha, lineage.config.lora.dropout) == (128, 0.05)
    assert lineage.results.per_class["中立"].f1 == 0.785
    assert lineage.model.gguf_path == "models/gguf/v2-q8_0.gguf"
    assert lineage.notes.count("\n") == 3


def test_the_summary(tmp_path: Path) -> None:
    summary = parsed(TaskSummary, SUMMARY, tmp_path).task_summary
    assert summary.success_criteria.baseline == "rule_based_0.65"
    assert summary.constraints[0] == {"資料量": "500 筆已標註"}
    assert summary.versioning.retention.keep_recent == 3
    assert summary.goal.startswith("分析金融新聞")


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (Task, TASK_OF_THE_COACH),
        (Task, TASK_OF_THE_MANAGER),
        (DataSource, DATA_SOURCES),
        (DataSource, LONG_FORM),
        (Lineage, SHORT_LINEAGE),
        (Lineage, LONG_LINEAGE),
        (TaskSummary, SUMMARY),
    ],
)
def test_what_is_read_can_be_written_and_read_again(document: type[Document], text: str, tmp_path: Path) -> None:
    read = parsed(document, text, tmp_path)
    path = tmp_path / "again.yaml"
    read.save(path)
    assert document.load(path) == read
