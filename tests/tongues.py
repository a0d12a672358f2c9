"""What is said in each language of a conversation, and a shop's reviews in it."""

from __future__ import annotations

import csv
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import LABELS, reviews
from conversation import Question

ROWS = 200
TOO_HIGH = 0.92  # more than the few test rows of these can show


@dataclass(frozen=True)
class Tongue:
    """Everything that is said in one language, and what the hooks and commands are expected to say in it."""

    locale: str
    labels: tuple[str, str, str]
    wish: str
    questions: tuple[Question, ...]
    goal: str
    template: str
    language: str
    domain: str
    lower: Question
    plan: Question
    valid: str
    share: str
    trained: str
    following: str
    measured: str
    not_met: str
    refused: str
    judge: str
    verdict: str
    agree: str
    go_on: str
    change: str
    farewell: str

    @property
    def summary(self) -> dict[str, Any]:
        """task_summary.yaml as it is agreed at first."""
        return {
            "name": "sentiment",
            "type": "classification",
            "domain": self.domain,
            "goal": self.goal,
            "constraints": [{"GPU": "A10G"}],
            "success_criteria": {"primary_metric": "macro_f1", "threshold": TOO_HIGH},
            "versioning": {"strategy": "semantic", "deploy_target": "local", "retention": 3},
            "language": self.language,
            "labels": list(self.labels),
            "fields": ["text"],
            "input_template": self.template,
            "needs": ["light"],
            "data": "reviews.csv",
        }

    def speaks(self, words: str) -> bool:
        """Whether a sentence is in this language; names and commands in it may be Latin."""
        return bool(re.search("[\u4e00-\u9fff]", words)) == (self.language == "zh-TW")


ENGLISH = Tongue(
    locale="en_US.UTF-8",
    labels=("positive", "neutral", "negative"),
    wish="I want to do sentiment analysis on our reviews",
    questions=(
        Question("Which classes should it tell apart? reviews.csv has these three.", "Classes",
                 (("positive, neutral, negative (Recommended)", "as in the file"), ("I don't know yet", "we look"))),
        Question("What macro-F1 counts as success?", "Success",
                 (("0.80 (Recommended)", "a usual start"), ("I don't know yet", "we measure first")), str(TOO_HIGH)),
        Question("Where will the model run?", "Versions",
                 (("local (Recommended)", "on this machine"), ("I don't know yet", "decide later"))),
    ),
    goal="Sort the shop's reviews, so that somebody calls the unhappy customers the same day.",
    template="Is this review positive, neutral or negative?\n{text}",
    language="en",
    domain="retail",
    lower=Question("30 test rows cannot show 0.92. What shall it reach instead?", "Success",
                   (("0.85", "these rows can show it"), ("Keep 0.92", "and label 100 more first"))),
    plan=Question("Shall I set the task up like this?", "Plan",
                  (("Yes (Recommended)", "as proposed"), ("I don't know yet", "tell me more")),
                  "Yes, but we may only use our own base model, the one in models/house"),
    valid="sentiment/data/{split}.jsonl: rows {rows}, bad 0",
    share="{label} {count} (",
    trained="sentiment {version}: training completed, not evaluated yet",
    following="next command: nlp-skills evaluate sentiment",
    measured="sentiment {version}: evaluated, test rows {rows}",
    not_met="criterion ≥ 85.0%: not met",
    refused="{version} is not to be deployed:",
    judge="Judge v1 of the task sentiment: adopt, iterate, collect data or stop?",
    verdict="Iterate: macro-F1 is {figure} of the 85.0% asked for, rows wrong: {wrong} of {rows}. Next: learn faster.",
    agree="Good, then make the data and a first version.",
    go_on="Then try that, and put v2 to use if it is good enough.",
    change="learning rate 0.0002 → 0.002",
    farewell="v2 stays here until it reaches what you asked for.",
)  # fmt: skip

CHINESE = Tongue(
    locale="zh_TW.UTF-8",
    labels=("正面", "中立", "負面"),
    wish="我想做情感分析",
    questions=(
        Question("要分成哪些類別？reviews.csv 裡有這三種。", "類別",
                 (("正面、中立、負面（建議）", "與檔案相同"), ("還不確定", "先一起看資料"))),
        Question("macro-F1 達到多少算成功？", "成功標準",
                 (("0.80（建議）", "常見的起點"), ("還不確定", "先量基準")), str(TOO_HIGH)),
        Question("模型會在哪裡執行？", "版本",
                 (("local（建議）", "就在這台電腦"), ("還不確定", "之後再決定"))),
    ),
    goal="分類商店的評論，讓不滿意的顧客當天就接到電話。",
    template="這則評論是正面、中立還是負面？\n{text}",
    language="zh-TW",
    domain="零售",
    lower=Question("30 筆測試資料無法證明 0.92，要改成多少？", "成功標準",
                   (("0.85", "這些資料就能證明"), ("維持 0.92", "先再標註 100 筆"))),
    plan=Question("要照這個方案建立任務嗎？", "方案", (("好（建議）", "照建議"), ("還不確定", "再說明一下")),
                  "好，但我們只能用自己的基礎模型，在 models/house"),
    valid="sentiment/data/{split}.jsonl：{rows} 筆，0 筆有問題",
    share="{label} {count}（",
    trained="sentiment {version}：訓練完成，尚未評估",
    following="下一個指令：nlp-skills evaluate sentiment",
    measured="sentiment {version}：已在 {rows} 筆測試資料上評估",
    not_met="成功標準 ≥ 85.0%：未達成",
    refused="{version} 不應部署：",
    judge="請判斷任務 sentiment 的 v1：採用、再迭代、收集資料，還是停止？",
    verdict="再迭代：macro-F1 為 {figure}，要求 85.0%；{rows} 筆中錯 {wrong} 筆。下一步：提高學習率。",
    agree="好，那就準備資料，做出第一版。",
    go_on="那就試試看，v2 夠好的話就上線。",
    change="學習率 0.0002 → 0.002",
    farewell="v2 先留在這裡，等達到您要的標準再部署。",
)  # fmt: skip

_CHINESE_WORDS = {
    "great": "很棒", "lovely": "討喜", "excellent": "優秀", "superb": "極好", "plain": "樸素", "ordinary": "普通",
    "usual": "一般", "average": "尚可", "awful": "糟糕", "broken": "壞了", "terrible": "可怕", "useless": "沒用",
    "camera": "相機", "router": "路由器", "player": "播放器", "phone": "手機", "lens": "鏡頭", "battery": "電池",
    "case": "保護殼", "screen": "螢幕", "strap": "背帶", "manual": "說明書",
}  # fmt: skip


def write_reviews(path: Path, tongue: Tongue, rows: int = ROWS) -> None:
    """A file as a shop has it, labelled in a hurry: no model, large or small, reaches on it what is asked for."""
    hurry = random.Random(5)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for row in reviews(rows):
            slip = hurry.choice((0, 0, 0, 1, 2))
            label = tongue.labels[(LABELS.index(row["label"]) + slip) % 3]
            writer.writerow([said_in(tongue, row["text"]), label])


def said_in(tongue: Tongue, review: str) -> str:
    if tongue is ENGLISH:
        return review
    number, thing, word = re.fullmatch(r"Order (\d+): this (\w+) is (\w+)\.", review).groups()  # type: ignore[union-attr]
    return f"訂單 {number}：這個{_CHINESE_WORDS[thing]}{_CHINESE_WORDS[word]}。"
